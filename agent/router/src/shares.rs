//! A weighted choice without randomness.

/// Chooses one of several members, each in proportion to its weight.
///
/// After any number `n` of choices each member with weight `w` of the sum `W` was chosen more often than `n·w/W − 1`
/// and less often than `n·w/W + 1` times, with no look at the past beyond one number per member. This is Tijdeman's
/// solution of the chairman assignment problem (Discrete Mathematics 32, 1980): among the members that are owed at
/// least `1/(2k − 2)` of a choice, the one whose debt would first grow too large comes next.
#[derive(Clone, Debug)]
pub struct Shares {
    members: Vec<Member>,
    /// Sum of the weights.
    total: i64,
    /// `2k − 2` for `k` members with a weight, at least 1.
    scale: i64,
}

#[derive(Clone, Debug)]
struct Member {
    /// Index in the slice that was given.
    index: usize,
    weight: i64,
    /// `n·weight − chosen·total` after `n` choices: what the member is owed, times `total`.
    owed: i64,
}

impl Shares {
    /// Members by their weights; those of weight 0 are never chosen.
    pub fn new(weights: &[u16]) -> Self {
        let members: Vec<Member> = weights
            .iter()
            .enumerate()
            .filter(|(_, weight)| **weight > 0)
            .map(|(index, weight)| Member { index, weight: i64::from(*weight), owed: 0 })
            .collect();
        let total = members.iter().map(|member| member.weight).sum();
        let count = i64::try_from(members.len()).expect("a list in memory has fewer than 2^63 members");
        let scale = (2 * count - 2).max(1);
        Self { members, total, scale }
    }

    /// The index of the next member; `None` when every weight is 0.
    pub fn choose(&mut self) -> Option<usize> {
        if let [only] = self.members.as_slice() {
            return Some(only.index);
        }
        let (total, scale) = (self.total, self.scale);
        for member in &mut self.members {
            member.owed += member.weight;
        }
        // Left until a member is owed 1 − 1/scale too much: (scale − 1)·total − scale·owed, in units of its weight.
        let chosen = self
            .members
            .iter_mut()
            .filter(|member| member.owed * scale >= total)
            .map(|member| (((scale - 1) * total - scale * member.owed), member))
            .min_by(|(a, left), (b, right)| (a * right.weight).cmp(&(b * left.weight)))?
            .1;
        chosen.owed -= total;
        Some(chosen.index)
    }
}
