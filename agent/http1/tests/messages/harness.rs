//! Reads whole streams in pieces, and says in words what became of them.

use brattice_http1::{
    BadResponse, BodyLength, BodyReader, Index, Limits, Part, Refusal, RequestHead, RequestReader, ResponseHead,
    ResponseReader, Version,
};

/// Small, so that they are reached by short inputs.
pub(crate) const REQUESTS: Limits = Limits::requests(512, 6);
pub(crate) const RESPONSES: Limits = Limits::responses(512, 6, 2, 700);

fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// What came so far of a stream that is cut at these places, in order. Keeps only what the readers ask to keep.
pub(crate) struct Stream<'a> {
    pieces: std::collections::VecDeque<&'a [u8]>,
    held: Vec<u8>,
    /// The most that was held at once.
    pub(crate) most: usize,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(bytes: &'a [u8], cuts: &[usize]) -> Self {
        let (mut pieces, mut from) = (std::collections::VecDeque::new(), 0);
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            pieces.push_back(&bytes[from..cut]);
            from = cut;
        }
        Self { pieces, held: Vec::new(), most: 0 }
    }

    /// False: the peer sends no more.
    fn more(&mut self) -> bool {
        let Some(piece) = self.pieces.pop_front() else { return false };
        self.most = self.most.max(self.held.len());
        self.held.extend_from_slice(piece);
        true
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.held.drain(..count).collect()
    }
}

/// A body's data, and its trailers.
pub(crate) type Decoded = (Vec<u8>, Vec<(String, String)>);

/// A body, decoded; `None`: the stream ended before it.
pub(crate) fn body(stream: &mut Stream<'_>, length: BodyLength, limits: &Limits) -> Result<Option<Decoded>, Refusal> {
    let (mut reader, mut trailers, mut data) = (BodyReader::new(length, limits), Index::default(), Vec::new());
    loop {
        match reader.next(&stream.held, &mut trailers)? {
            Part::Data(count) => data.extend(stream.take(count)),
            Part::Framing { length, .. } => drop(stream.take(length)),
            Part::End(length) => {
                let section = stream.take(length);
                let fields = trailers.on(&section);
                let fields = fields.iter().map(|field| (show(field.name), show(field.value))).collect();
                return Ok(Some((data, if length > 0 { fields } else { Vec::new() })));
            }
            Part::More if stream.more() => {}
            Part::More => {
                return Ok(reader.end_of_input().ok().map(|()| (data, Vec::new())));
            }
        }
    }
}

fn body_in_words(stream: &mut Stream<'_>, length: BodyLength, limits: &Limits) -> Result<Option<String>, Refusal> {
    let Some((data, trailers)) = body(stream, length, limits)? else { return Ok(None) };
    let data = show(&data);
    let mut text = match length {
        BodyLength::None => "no body".to_owned(),
        BodyLength::Length(length) => format!("body of {length} bytes `{data}`").replace(" ``", ""),
        BodyLength::Chunked => format!("chunked body `{data}`"),
        BodyLength::UntilClose => format!("body until the end `{data}`"),
    };
    for (name, value) in trailers {
        text += &format!("; trailer `{name}: {value}`");
    }
    Ok(Some(text))
}

/// The first request of a stream, and how many bytes are of it; what is refused by status and text.
pub(crate) fn request(stream: &mut Stream<'_>, limits: &Limits) -> String {
    match read_request(stream, limits) {
        Ok(Some(text)) => text,
        Ok(None) => "more is awaited".to_owned(),
        Err(refusal) => format!("{}: {}", refusal.status(), refusal.text()),
    }
}

fn read_request(stream: &mut Stream<'_>, limits: &Limits) -> Result<Option<String>, Refusal> {
    let (mut reader, mut head) = (RequestReader::new(limits), RequestHead::default());
    let length = loop {
        match reader.read(&stream.held, &mut head)? {
            Some(length) => break length,
            None if stream.more() => {}
            None => return Ok(None),
        }
    };
    stream.take(length);
    let Some(body) = body_in_words(stream, head.body, limits)? else { return Ok(None) };
    let mut text = format!("read; {body}");
    for (is, words) in [
        (head.expects_continue(), "; 100 Continue is awaited"),
        (head.offers_upgrade(), "; nothing behind it is read before the offer is answered"),
        (!head.keeps(), "; then closed"),
    ] {
        if is {
            text += words;
        }
    }
    Ok(Some(text))
}

/// The final response of a stream.
pub(crate) fn response(stream: &mut Stream<'_>, limits: &Limits, to_head: bool) -> String {
    match read_response(stream, limits, to_head) {
        Ok(Some(text)) => text,
        Ok(None) => "more is awaited".to_owned(),
        Err(bad) => format!("502: {bad}"),
    }
}

fn read_response(stream: &mut Stream<'_>, limits: &Limits, to_head: bool) -> Result<Option<String>, BadResponse> {
    let (mut reader, mut head) = (ResponseReader::new(limits, to_head), ResponseHead::default());
    let mut interim = String::new();
    let section = loop {
        let length = loop {
            match reader.read(&mut stream.held, &mut head)? {
                Some(length) => break length,
                None if stream.more() => {}
                None => return Ok(None),
            }
        };
        let section = stream.take(length);
        if !head.is_interim() {
            break section;
        }
        interim += &format!("{} passed on, ", head.status);
    };
    let Some(body) = body_in_words(stream, head.body, limits)? else { return Ok(None) };
    let mut text = format!("{interim}read; {body}");
    let repaired: Vec<_> = head.on(&section).fields().iter().filter(|field| field.name.starts_with(b"x-")).collect();
    for field in repaired {
        text += &format!("; `{}: {}`", show(field.name), show(field.value));
    }
    if head.version == Version::Http10 || !head.keeps() {
        text += if head.keeps() { "; kept" } else { "; then closed" };
    }
    Ok(Some(text))
}
