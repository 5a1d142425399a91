use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use brattice_wire::engine::{FromEngine, MAX_FROM_ENGINE, decode, encode};

use super::*;

fn applied(revision: u64) -> Vec<u8> {
    encode(&FromEngine::Applied { revision }, MAX_FROM_ENGINE).unwrap()
}

fn pair() -> (UnixStream, Reader<Arc<UnixStream>>) {
    let (here, there) = UnixStream::pair().unwrap();
    (here, Reader::new(Arc::new(there), MAX_FROM_ENGINE))
}

#[tokio::test]
async fn descriptors_travel_with_their_own_frame() {
    let (here, mut reader) = pair();
    let mut file = tempfile::tempfile().unwrap();
    // All of them wait when the first is read.
    send(&here, &applied(1), &[]).await.unwrap();
    send(&here, &applied(2), &[file.as_fd(), file.as_fd()]).await.unwrap();
    send(&here, &applied(3), &[]).await.unwrap();
    for (revision, count) in [(1, 0), (2, 2), (3, 0)] {
        let frame = reader.next().await.unwrap();
        assert_eq!(decode::<FromEngine>(&frame.body).unwrap(), FromEngine::Applied { revision });
        assert_eq!(frame.descriptors.len(), count, "{revision}");
        for descriptor in frame.descriptors {
            let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            std::fs::File::from(descriptor).write_all(b"x").unwrap();
        }
    }
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "xx");
    drop(here);
    assert!(matches!(reader.next().await, Err(StreamError::Closed)));
}

#[tokio::test]
async fn large_frames_pass_in_pieces_and_longer_ones_not_at_all() {
    let (here, there) = UnixStream::pair().unwrap();
    let reason = "x".repeat(3 * CHUNK);
    let frame = encode(&FromEngine::Refused { revision: 1, reason: reason.clone() }, 4 * CHUNK).unwrap();
    let sender = tokio::spawn(async move {
        send(&here, &frame, &[]).await.unwrap();
        here
    });
    let mut reader = Reader::new(Arc::new(there), 4 * CHUNK);
    let body = reader.next().await.unwrap().body;
    assert_eq!(decode::<FromEngine>(&body).unwrap(), FromEngine::Refused { revision: 1, reason });
    let here = sender.await.unwrap();
    send(&here, &[0xff; 4], &[]).await.unwrap();
    assert!(matches!(reader.next().await, Err(StreamError::Frame(FrameError::TooLong { .. }))));
}

#[tokio::test]
async fn a_read_that_is_given_up_loses_nothing() {
    let (here, mut reader) = pair();
    let frame = applied(7);
    for byte in &frame[..frame.len() - 1] {
        send(&here, &[*byte], &[]).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(1), reader.next()).await.is_err());
    }
    send(&here, &frame[frame.len() - 1..], &[]).await.unwrap();
    let body = reader.next().await.unwrap().body;
    assert_eq!(decode::<FromEngine>(&body).unwrap(), FromEngine::Applied { revision: 7 });
}

#[tokio::test]
async fn half_a_frame_is_an_error() {
    let (here, mut reader) = pair();
    send(&here, &[0, 0, 0, 9, 1], &[]).await.unwrap();
    drop(here);
    assert!(matches!(reader.next().await, Err(StreamError::Io(_))));
}
