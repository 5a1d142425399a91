//! What comes in, and what becomes of it: `tests/corpus`. The crate's README shows these tables; a test compares them.

/// A message.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    /// As it is written in the file.
    pub(crate) comes: &'static str,
    pub(crate) becomes: &'static str,
    pub(crate) rfc: &'static str,
}

impl Row {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        bytes(self.comes)
    }

    /// It responds to a `HEAD`.
    pub(crate) fn to_head(&self) -> bool {
        self.what.starts_with("to `HEAD`")
    }
}

fn rows(file: &'static str) -> Vec<Row> {
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    let row = |line: &'static str| {
        let columns: Vec<_> = line.split(" ¦ ").collect();
        let [what, comes, becomes, rfc] = columns[..] else { panic!("not four columns: {line}") };
        Row { what, comes, becomes, rfc }
    };
    lines.map(row).collect()
}

pub(crate) fn requests() -> Vec<Row> {
    rows(include_str!("../corpus/requests.txt"))
}

pub(crate) fn responses() -> Vec<Row> {
    rows(include_str!("../corpus/responses.txt"))
}

/// See the files' first lines.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.chars());
    while let Some(c) = rest.next() {
        match c {
            '~' => bytes.extend(b"\r\n"),
            '¬' => bytes.push(b'~'),
            '\\' => match rest.next().unwrap() {
                'n' => bytes.push(b'\n'),
                'r' => bytes.push(b'\r'),
                't' => bytes.push(b'\t'),
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    bytes.push(u8::from_str_radix(&digits, 16).unwrap());
                }
                c => bytes.push(u8::try_from(c).unwrap()),
            },
            c => bytes.push(u8::try_from(u32::from(c)).unwrap()),
        }
    }
    bytes
}
