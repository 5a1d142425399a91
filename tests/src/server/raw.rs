//! A server that plays bytes: for what a well-behaved HTTP server never sends, and to see exactly what arrives.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::lab::Namespace;

/// Accepts connections; for each, reads a request head (to the empty line), notes it, and writes `answer`.
///
/// Its thread waits in accept() until the test program ends; its socket vanishes with it.
pub struct RawServer {
    /// Every byte read, by connection.
    pub received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RawServer {
    /// Starts one in a namespace.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn start(namespace: &Namespace, port: u16, answer: &'static [u8]) -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let listener = namespace.enter(|| {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap_or_else(|error| panic!("port {port}: {error}"))
        });
        let notes = received.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let notes = notes.clone();
                std::thread::spawn(move || play(stream, answer, &notes));
            }
        });
        Self { received }
    }

    /// Everything received so far, as text.
    pub fn text(&self) -> String {
        self.received
            .lock()
            .expect("no holder of this lock panics")
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect()
    }
}

fn play(mut stream: TcpStream, answer: &[u8], notes: &Mutex<Vec<Vec<u8>>>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let index = {
        let mut all = notes.lock().expect("no holder of this lock panics");
        all.push(Vec::new());
        all.len() - 1
    };
    let mut answered = 0;
    let mut buffer = [0; 16 * 1024];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 {
            return;
        }
        let heads = {
            let mut all = notes.lock().expect("no holder of this lock panics");
            all[index].extend_from_slice(&buffer[..length]);
            all[index].windows(4).filter(|window| window == b"\r\n\r\n").count()
        };
        while answered < heads {
            answered += 1;
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}
