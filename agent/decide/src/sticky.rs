//! Which target group gets a request of a weighted forward.

use brattice_wire::index::TargetGroupIndex;
use http::HeaderValue;

use crate::{
    call::Call,
    compiled::Compiled,
    head::Head,
    rules::{Forward, Stickiness},
};

/// The target group, and the cookie that keeps the caller there if it has none yet; `None` when none has a weight. `share`
/// says which one comes next by weight, where nothing of the request decides that.
pub(crate) fn group<'s, H: Head + ?Sized>(
    compiled: &Compiled,
    forward: &'s Forward,
    call: &Call<'_>,
    head: &H,
    share: impl FnOnce(&Forward) -> Option<usize>,
) -> Option<(TargetGroupIndex, Option<&'s HeaderValue>)> {
    let sticky = match &forward.stickiness {
        None => None,
        Some(Stickiness::Cookie { name, marks }) => {
            let reachable = |index: usize| {
                forward.weights.get(index).is_some_and(|weight| *weight > 0)
                    && compiled.group(forward.groups[index]).is_some_and(|group| !group.targets.is_empty())
            };
            let mut known = None;
            cookies(head, name, |value| {
                let index = marks.iter().position(|(mark, _)| mark.as_bytes() == value);
                known = known.or(index.filter(|index| reachable(*index)));
            });
            if known.is_none() {
                let chosen = share(forward)?;
                return Some((*forward.groups.get(chosen)?, marks.get(chosen).map(|(_, cookie)| cookie)));
            }
            known
        }
        Some(Stickiness::Header(name, shares)) => {
            let mut count = 0;
            let mut chosen = None;
            head.field(name.as_str(), &mut |value| {
                count += 1;
                chosen = brattice_router::sticky(shares, value);
            });
            if count > 1 {
                let mut all: Vec<Vec<u8>> = Vec::with_capacity(count);
                head.field(name.as_str(), &mut |value| all.push(value.to_vec()));
                let all = all.join(&b", "[..]);
                chosen = brattice_router::sticky(shares, &all);
            }
            chosen
        }
        Some(Stickiness::Source(shares)) => {
            let vpc = compiled.vpc(call.vpc).map_or("", |vpc| vpc.id.as_str());
            call.address.and_then(|address| {
                brattice_router::sticky(shares, brattice_router::SourceKey::new(vpc, address).bytes())
            })
        }
    };
    let chosen = match sticky {
        Some(chosen) => chosen,
        None => share(forward)?,
    };
    Some((*forward.groups.get(chosen)?, None))
}

/// The values of a cookie in a request (RFC 6265, 4.2.1).
fn cookies<H: Head + ?Sized>(head: &H, name: &str, mut found: impl FnMut(&[u8])) {
    head.field("cookie", &mut |field| {
        for pair in field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            if let Some(equals) = pair.iter().position(|byte| *byte == b'=')
                && &pair[..equals] == name.as_bytes()
            {
                found(&pair[equals + 1..]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Cookies(&'static [&'static [u8]]);

    impl Head for Cookies {
        fn method(&self) -> &str {
            "GET"
        }

        fn path(&self) -> &str {
            "/"
        }

        fn query(&self) -> &str {
            ""
        }

        fn field(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
            assert_eq!(name, "cookie");
            self.0.iter().for_each(|value| each(value));
        }
    }

    #[test]
    fn cookies_are_found_by_name() {
        let head = Cookies(&[b"a=1; group=x;group=y; xgroup=z", b"nothing;group=\"q\"; group="]);
        let mut all: Vec<Vec<u8>> = Vec::new();
        cookies(&head, "group", |value| all.push(value.to_vec()));
        assert_eq!(all, [&b"x"[..], b"y", b"\"q\"", b""]);
    }
}
