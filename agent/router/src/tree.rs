//! Texts as a radix tree: one walk along a text finds all conditions on how it begins and what it is.

/// How much of a text a condition asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// All of it.
    All,
    /// How it begins, up to its end or a `/`.
    Segments,
    /// How it begins.
    Start,
}

/// Conditions on a text, each with what is known for it.
#[derive(Debug)]
pub(crate) struct Tree<T> {
    /// The first is the root; others come after the node they hang from.
    nodes: Vec<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    /// What comes after the parent's text.
    label: Box<[u8]>,
    /// First bytes of the children's labels.
    keys: Vec<u8>,
    /// The children, as `keys`.
    children: Vec<usize>,
    /// What is known for the text up to here, by place.
    all: Option<Box<T>>,
    segments: Option<Box<T>>,
    start: Option<Box<T>>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Self { nodes: Vec::new() }
    }
}

impl<T> Node<T> {
    fn new(label: &[u8]) -> Self {
        let label = label.into();
        Self { label, keys: Vec::new(), children: Vec::new(), all: None, segments: None, start: None }
    }
}

impl<T: Default> Tree<T> {
    /// What is known for a text, to add to it.
    pub(crate) fn entry(&mut self, place: Place, text: &[u8]) -> &mut T {
        let index = self.node(text);
        let node = &mut self.nodes[index];
        match place {
            Place::All => &mut node.all,
            Place::Segments => &mut node.segments,
            Place::Start => &mut node.start,
        }
        .get_or_insert_default()
    }

    /// The node of a text, made where there is none.
    fn node(&mut self, text: &[u8]) -> usize {
        if self.nodes.is_empty() {
            self.nodes.push(Node::new(b""));
        }
        let (mut at, mut rest) = (0, text);
        while let Some(first) = rest.first() {
            let Some(place) = self.nodes[at].keys.iter().position(|key| key == first) else {
                let new = self.nodes.len();
                self.nodes.push(Node::new(rest));
                self.nodes[at].keys.push(*first);
                self.nodes[at].children.push(new);
                return new;
            };
            let child = self.nodes[at].children[place];
            let label = &self.nodes[child].label;
            let common = label.iter().zip(rest).take_while(|(a, b)| a == b).count();
            let next = if common < label.len() {
                let (before, after) = label.split_at(common);
                let mut middle = Node::new(before);
                middle.keys.push(after[0]);
                middle.children.push(child);
                self.nodes[child].label = after.into();
                let new = self.nodes.len();
                self.nodes.push(middle);
                self.nodes[at].children[place] = new;
                new
            } else {
                child
            };
            (at, rest) = (next, &rest[common..]);
        }
        at
    }
}

impl<T> Tree<T> {
    /// Calls `visit` with all that is known for a text and its beginnings, and whether that is all of the text; returns
    /// how many nodes were looked at. With `fold`, the text is taken in lower case (ASCII).
    pub(crate) fn walk<'t>(&'t self, text: &[u8], fold: bool, mut visit: impl FnMut(Place, bool, &'t T)) -> u64 {
        let Some(mut node) = self.nodes.first() else { return 0 };
        let mut rest = text;
        let mut steps = 1;
        loop {
            let end = rest.is_empty();
            if let Some(known) = &node.start {
                visit(Place::Start, end, known);
            }
            if let Some(known) = &node.segments
                && (end || rest[0] == b'/')
            {
                visit(Place::Segments, end, known);
            }
            if end {
                if let Some(known) = &node.all {
                    visit(Place::All, end, known);
                }
                return steps;
            }
            let first = if fold { rest[0].to_ascii_lowercase() } else { rest[0] };
            let Some(place) = memchr::memchr(first, &node.keys) else { return steps };
            steps += 1;
            node = &self.nodes[node.children[place]];
            let Some((part, behind)) = rest.split_at_checked(node.label.len()) else { return steps };
            let equal = if fold { node.label.eq_ignore_ascii_case(part) } else { *node.label == *part };
            if !equal {
                return steps;
            }
            rest = behind;
        }
    }
}
