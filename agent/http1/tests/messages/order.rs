//! What is read next on a client's connection, and what follows a response.

use brattice_http1::{
    RequestHead, RequestReader,
    conversation::{After, Conversation, Next},
};

use crate::harness::REQUESTS;

fn head(text: &str) -> RequestHead {
    let mut head = RequestHead::default();
    RequestReader::new(&REQUESTS).read(text.replace('~', "\r\n").as_bytes(), &mut head).unwrap().unwrap();
    head
}

const GET: &str = "GET / HTTP/1.1~Host: h~~";
const POST: &str = "POST / HTTP/1.1~Host: h~Content-Length: 5~~";

#[test]
fn requests_are_answered_one_after_another() {
    let mut conversation = Conversation::default();
    for _ in 0..2 {
        assert_eq!(conversation.next(), Next::Head);
        conversation.head(&head(GET));
        assert_eq!(conversation.next(), Next::Wait, "a pipelined request waits for its turn");
        assert_eq!(conversation.respond(false), None);
        assert_eq!(conversation.responded(), After::Keep);
        conversation.head(&head(POST));
        assert_eq!(conversation.next(), Next::Body);
        conversation.body_ended();
        assert_eq!(conversation.next(), Next::Wait);
        assert_eq!(conversation.respond(false), None);
        assert_eq!(conversation.responded(), After::Keep);
    }
}

fn end_with_connection(conversation: &mut Conversation) {
    assert_eq!(conversation.respond(true), Some("close"));
}

#[test]
fn a_connection_ends_when_it_has_to() {
    type Steps = fn(&mut Conversation);
    let cases: [(&str, &str, Steps, Option<&str>, After); 9] = [
        ("close", "GET / HTTP/1.1~Host: h~Connection: close~~", |_| {}, Some("close"), After::Close { unread: false }),
        ("HTTP/1.0", "GET / HTTP/1.0~~", |_| {}, Some("close"), After::Close { unread: false }),
        ("kept", "GET / HTTP/1.0~Connection: keep-alive~~", |_| {}, Some("keep-alive"), After::Keep),
        ("draining", GET, Conversation::drain, Some("close"), After::Close { unread: false }),
        ("a refused body", POST, Conversation::refuse, Some("close"), After::Close { unread: true }),
        ("an early response", POST, |_| {}, None, After::Close { unread: true }),
        ("a late body", POST, Conversation::body_ended, None, After::Keep),
        ("a body without an end", GET, end_with_connection, Some("close"), After::Close { unread: false }),
        ("another protocol", GET, Conversation::switch, None, After::Switch),
    ];
    for (name, text, steps, says, after) in cases {
        let mut conversation = Conversation::default();
        conversation.head(&head(text));
        steps(&mut conversation);
        assert_eq!(conversation.respond(false), says, "{name}");
        assert_eq!(conversation.responded(), after, "{name}");
        let next = match after {
            After::Keep => Next::Head,
            After::Close { .. } => Next::Nothing,
            After::Switch => Next::Switched,
        };
        assert_eq!(conversation.next(), next, "{name}");
    }
}

#[test]
fn a_refused_head_is_answered_and_nothing_behind_it_is_read() {
    let mut conversation = Conversation::default();
    conversation.refuse();
    assert_eq!(conversation.next(), Next::Nothing);
    assert_eq!(conversation.respond(false), Some("close"));
    assert_eq!(conversation.responded(), After::Close { unread: true });
    let mut idle = Conversation::default();
    idle.drain();
    assert_eq!(idle.next(), Next::Nothing);
}
