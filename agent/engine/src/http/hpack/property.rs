//! The reader of header sections beside the model, and beside the HTTP/2 library.

use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{
    Decoder, OVERHEAD, TABLE,
    model::{Field, Model, requests},
};

/// Of each field: pseudo-header, with a fragment.
fn read(decoder: &mut Decoder, block: &[u8]) -> Option<Vec<(bool, bool)>> {
    let mut all = Vec::new();
    decoder.read(block, |field| all.push((field.is_pseudo(), field.has_fragment()))).map(|()| all)
}

/// The same of whole fields.
fn told(fields: &[Field]) -> Vec<(bool, bool)> {
    let is_path = |name: &[u8]| name == b":path";
    fields.iter().map(|(name, value)| (name.starts_with(b":"), is_path(name) && value.contains(&b'#'))).collect()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest payload of a frame.
const LONGEST: usize = 16 * 1024;

/// A section in frames.
fn section(stream: u32, block: &[u8]) -> Vec<u8> {
    let pieces: Vec<&[u8]> = if block.is_empty() { vec![&[]] } else { block.chunks(LONGEST).collect() };
    let last = pieces.len() - 1;
    let frames = pieces.iter().enumerate().map(|(number, piece)| {
        let (kind, end_stream) = if number == 0 { (1, 1) } else { (9, 0) };
        frame(kind, end_stream | if number == last { 4 } else { 0 }, stream, piece)
    });
    frames.collect::<Vec<_>>().concat()
}

fn run<F: Future>(what: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(what)
}

/// Requests as the library's server understands them: all fields, sorted; the path without its fragment, which it cuts off.
async fn understood(blocks: &[Vec<u8>]) -> Vec<Vec<Field>> {
    let (mut client, server) = duplex(1 << 20);
    let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
    for (number, block) in blocks.iter().enumerate() {
        bytes.extend(section(u32::try_from(number).unwrap() * 2 + 1, block));
    }
    client.write_all(&bytes).await.unwrap();
    let mut server = h2::server::handshake(server).await.unwrap();
    let mut all = Vec::new();
    while all.len() < blocks.len() {
        let (request, _) = server.accept().await.expect("all requests come").expect("they are sound");
        let own = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
        let uri = request.uri();
        let mut fields = vec![
            own(b":method", request.method().as_str().as_bytes()),
            own(b":scheme", uri.scheme_str().unwrap().as_bytes()),
            own(b":authority", uri.authority().unwrap().as_str().as_bytes()),
            own(b":path", uri.path().as_bytes()),
        ];
        fields.extend(request.headers().iter().map(|(name, value)| own(name.as_str().as_bytes(), value.as_bytes())));
        fields.sort();
        all.push(fields);
    }
    all
}

/// What the library's client writes for such requests, with a table of this size: blocks of header sections.
async fn written(requests: &[Vec<Field>], table: u32) -> Vec<Vec<u8>> {
    let (client, mut server) = duplex(1 << 20);
    let settings = [&[0, 1][..], &table.to_be_bytes()].concat();
    server.write_all(&frame(4, 0, 0, &settings)).await.unwrap();
    let (mut client, connection) = h2::client::handshake(client).await.unwrap();
    let mut answers = Vec::new();
    let (send, read) = (
        async {
            for fields in requests {
                let mut request = http::Request::get("http://h/");
                for (name, value) in &fields[4..] {
                    request = request.header(&name[..], &value[..]);
                }
                client = client.clone().ready().await.unwrap();
                answers.push(client.send_request(request.body(()).unwrap(), true).unwrap());
                // The connection's turn: it takes the target's settings.
                tokio::task::yield_now().await;
            }
        },
        async {
            server.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
            let mut blocks: Vec<Vec<u8>> = Vec::new();
            let mut ended = 0;
            while ended < requests.len() {
                let mut header = [0; 9];
                server.read_exact(&mut header).await.unwrap();
                let [a, b, c, kind, flags, ..] = header;
                let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
                server.read_exact(&mut payload).await.unwrap();
                match kind {
                    1 => blocks.push(payload),
                    9 => blocks.last_mut().unwrap().extend(payload),
                    _ => continue,
                }
                ended += usize::from(flags & 4 != 0);
            }
            blocks
        },
    );
    let both = async { tokio::join!(send, read).1 };
    tokio::select! {
        blocks = both => blocks,
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever its encoder chooses, a section is read as it was written, by the library as well.
    #[test]
    fn sections_are_read_as_they_were_written(requests in requests()) {
        let (mut writer, mut reader, mut decoder) = (Model::default(), Model::default(), Decoder::default());
        let mut blocks = Vec::new();
        let mut expected = Vec::new();
        for request in &requests {
            let block = writer.write(request);
            let fields: Vec<Field> = request.iter().map(|(field, _)| field.clone()).collect();
            prop_assert_eq!(reader.read(&block), Some(fields.clone()));
            prop_assert_eq!(read(&mut decoder, &block), Some(told(&fields)));
            prop_assert_eq!((decoder.size, decoder.entries.len()), (reader.size(), reader.entries.len()));
            let mut fields: Vec<Field> = fields
                .into_iter()
                .map(|(name, mut value)| {
                    let fragment = value.iter().position(|byte| name == b":path" && *byte == b'#');
                    value.truncate(fragment.unwrap_or(value.len()));
                    (name, value)
                })
                .collect();
            fields.sort();
            expected.push(fields);
            blocks.push(block);
        }
        prop_assert_eq!(run(understood(&blocks)), expected);
    }

    /// What the library writes is read.
    #[test]
    fn what_the_library_writes_is_read(requests in requests(), table in 0..=4_096_u32) {
        let requests: Vec<Vec<Field>> =
            requests.into_iter().map(|request| request.into_iter().map(|(field, _)| field).collect()).collect();
        let blocks = run(written(&requests, table));
        let (mut reader, mut decoder) = (Model::default(), Decoder::default());
        for (block, fields) in blocks.iter().zip(&requests) {
            let known = reader.read(block);
            prop_assert!(known.is_some(), "{:?}", Bytes::copy_from_slice(block));
            let known = known.unwrap();
            prop_assert_eq!(read(&mut decoder, block), Some(told(&known)));
            let mut own: Vec<&Field> = known.iter().filter(|(name, _)| !name.starts_with(b":")).collect();
            let mut sent: Vec<&Field> = fields[4..].iter().collect();
            own.sort();
            sent.sort();
            prop_assert_eq!(own, sent);
            prop_assert_eq!(known.len(), fields.len());
        }
        prop_assert_eq!(blocks.len(), requests.len());
    }

    /// Bytes of any kind are read as the model reads them, or refused as it refuses them; no more than a table is kept.
    #[test]
    fn any_bytes_are_read_or_refused(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..20)) {
        let (mut model, mut decoder) = (Model::default(), Decoder::default());
        for block in &blocks {
            let known = model.read(block);
            let mut fields = 0;
            let sound = decoder.read(block, |_| fields += 1);
            prop_assert_eq!(sound.is_some(), known.is_some());
            prop_assert!(fields <= block.len());
            prop_assert!(decoder.size <= TABLE && decoder.entries.len() <= TABLE / OVERHEAD);
            prop_assert_eq!((decoder.size, decoder.entries.len()), (model.size(), model.entries.len()));
            if sound.is_none() {
                break;
            }
        }
    }
}
