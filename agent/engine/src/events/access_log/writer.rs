//! The log thread: writes the access log to what the agent has opened. It alone may wait for the destination.

use std::{
    fs::File,
    io::Write,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::output::{Destination, LogOutput, ToLog};

/// Bytes that a pipe takes whole when poll(2) says that it can be written (`PIPE_BUF`).
const PIECE: usize = 4_096;
/// How long a destination that takes nothing is waited for at once; in between, a new one is looked for.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The queue is looked at again after this, while lines come: to be woken would cost a worker a system call each time ...
const SHORTEST_LOOK: Duration = Duration::from_millis(1);
/// ... and where there were none, after twice as long, up to this.
const LONGEST_LOOK: Duration = Duration::from_millis(8);
/// After so long without any, the thread waits to be woken.
const QUIET: Duration = Duration::from_secs(1);
/// Pause after an error, and least time between two reports of it.
const ERROR_PAUSE: Duration = Duration::from_secs(10);

struct Writer<'a> {
    output: &'a LogOutput,
    destination: Option<(File, bool)>,
    /// A line was written in part.
    torn: bool,
    reported: Option<Instant>,
}

/// Writes until the workers are gone.
///
/// # Errors
/// None; others that run as threads have some.
pub fn run(output: &Arc<LogOutput>) -> Result<(), std::convert::Infallible> {
    let Some(queue) = output.log_queue() else { return Ok(()) };
    let mut writer = Writer { output, destination: None, torn: false, reported: None };
    while let Some(message) = next(&queue) {
        writer.renew();
        match message {
            ToLog::Wake => {}
            ToLog::Drain(done) => drop::<Result<(), mpsc::SendError<()>>>(done.send(())),
            ToLog::Lines(chunk) => {
                let written = writer.write(&chunk.bytes);
                output.lines[usize::from(!written)].fetch_add(chunk.lines, Relaxed);
                output.give_back(chunk.bytes);
            }
        }
    }
    Ok(())
}

/// The next message; none: the workers are gone.
fn next(queue: &mpsc::Receiver<ToLog>) -> Option<ToLog> {
    let since = Instant::now();
    let mut look = SHORTEST_LOOK;
    loop {
        match queue.try_recv() {
            Ok(message) => return Some(message),
            Err(mpsc::TryRecvError::Disconnected) => return None,
            Err(mpsc::TryRecvError::Empty) if since.elapsed() < QUIET => {
                std::thread::sleep(look);
                look = LONGEST_LOOK.min(look * 2);
            }
            Err(mpsc::TryRecvError::Empty) => return queue.recv().ok(),
        }
    }
}

impl Writer<'_> {
    /// Takes a new destination, if there is one.
    fn renew(&mut self) -> bool {
        let Some(destination): Option<Destination> = self.output.new_destination() else { return false };
        self.destination = destination.map(|(log, fd)| (File::from(fd), log.file));
        self.torn = false;
        self.reported = None;
        true
    }

    /// Whole lines; false: they are lost, or some of them.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        loop {
            let Some((_, regular)) = &self.destination else { return false };
            if !*regular && !self.wait() {
                // What is half written stays so in the old one.
                if self.renew() {
                    rest = bytes;
                }
                continue;
            }
            let Some((file, regular)) = &mut self.destination else { return false };
            let piece = match (self.torn, *regular) {
                (true, _) => b"\n",
                (false, true) => rest,
                (false, false) => &rest[..rest.len().min(PIECE)],
            };
            let written = match file.write(piece) {
                Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
                written => written,
            };
            match written {
                Ok(_) if self.torn => self.torn = false,
                Ok(written) => {
                    rest = &rest[written..];
                    if rest.is_empty() {
                        return true;
                    }
                }
                Err(error)
                    if matches!(error.kind(), std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock) => {}
                Err(error) => {
                    self.torn = rest.len() < bytes.len();
                    if self.reported.is_none_or(|reported| reported.elapsed() >= ERROR_PAUSE) {
                        self.reported = Some(Instant::now());
                        tracing::error!(%error, "the access log cannot be written; its lines are lost and counted");
                    }
                    return false;
                }
            }
        }
    }

    /// Waits until the destination takes something, for a while. True: it does, or says why not.
    fn wait(&self) -> bool {
        let Some((file, _)) = &self.destination else { return true };
        let mut polled = [PollFd::new(file, PollFlags::OUT)];
        !matches!(poll(&mut polled, Some(&LOOK)), Ok(0) | Err(Errno::INTR))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::fd::OwnedFd};

    use brattice_wire::engine::AccessLog;

    use super::*;
    use crate::events::access_log::output::Chunk;

    fn chunk(text: &str) -> Chunk {
        Chunk { lines: text.lines().count() as u64, bytes: text.as_bytes().to_vec(), ..Chunk::default() }
    }

    fn started() -> (Arc<LogOutput>, std::thread::JoinHandle<()>) {
        let output = Arc::new(LogOutput::default());
        let running = Arc::clone(&output);
        (output, std::thread::spawn(move || run(&running).unwrap()))
    }

    fn counts(output: &LogOutput) -> [u64; 3] {
        output.lines.each_ref().map(|count| count.load(Relaxed))
    }

    const FILE: AccessLog = AccessLog { sample: 1, file: true };
    const STREAM: AccessLog = AccessLog { sample: 1, file: false };

    #[test]
    fn lines_go_to_the_destination_of_the_moment() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let (output, _thread) = started();
        output.log_lines(chunk("nobody wants this\n"));
        output.drain(Duration::from_secs(5));
        assert_eq!(counts(&output), [0, 1, 0]);
        output.set_log(Some((FILE, File::create(&one).unwrap().into())));
        output.log_lines(chunk("a\nb\n"));
        output.drain(Duration::from_secs(5));
        output.set_log(Some((FILE, File::create(&two).unwrap().into())));
        output.log_lines(chunk("c\n"));
        output.drain(Duration::from_secs(5));
        output.set_log(None);
        output.log_lines(chunk("d\n"));
        output.drain(Duration::from_secs(5));
        assert_eq!(std::fs::read_to_string(one).unwrap(), "a\nb\n");
        assert_eq!(std::fs::read_to_string(two).unwrap(), "c\n");
        assert_eq!(counts(&output), [3, 2, 0]);
    }

    #[test]
    fn a_pipe_that_is_not_read_delays_no_request() {
        let (output, _thread) = started();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        output.set_log(Some((STREAM, writer)));
        let begun = Instant::now();
        let line = format!("{}\n", "x".repeat(1_023));
        let many = line.repeat(64);
        for _ in 0..LOTS {
            output.log_lines(chunk(&many));
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let [_, dropped, _] = counts(&output);
        assert!(dropped > 0, "the queue is bounded");
        // Once the pipe is read, every line that was not dropped arrives whole.
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            File::from(reader).read_to_string(&mut text).unwrap();
            text
        });
        output.drain(Duration::from_secs(20));
        let [written, dropped, _] = counts(&output);
        assert_eq!(written + dropped, 64 * LOTS as u64);
        output.set_log(None);
        output.drain(Duration::from_secs(5));
        let text = reading.join().unwrap();
        assert_eq!(text.lines().count() as u64, written);
        assert!(text.lines().all(|read| read.len() == 1_023));
    }

    const LOTS: usize = 400;

    #[test]
    fn lines_after_a_silence_are_written_soon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (output, _thread) = started();
        output.set_log(Some((FILE, File::create(&path).unwrap().into())));
        for (silence, lines) in [(Duration::ZERO, 1), (QUIET * 3 / 2, 2)] {
            std::thread::sleep(silence);
            output.log_lines(chunk("a\n"));
            let begun = Instant::now();
            while counts(&output)[0] < lines {
                assert!(begun.elapsed() < QUIET, "neither looked at nor woken");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_stuck_pipe_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (output, _thread) = started();
        let (_reader, writer): (OwnedFd, OwnedFd) = nix::unistd::pipe().unwrap();
        output.set_log(Some((STREAM, writer)));
        output.log_lines(chunk(&"y\n".repeat(100_000)));
        std::thread::sleep(Duration::from_millis(100));
        output.set_log(Some((FILE, File::create(&path).unwrap().into())));
        output.log_lines(chunk("z\n"));
        output.drain(Duration::from_secs(5));
        assert!(std::fs::read_to_string(path).unwrap() == format!("{}z\n", "y\n".repeat(100_000)), "from the chunk on");
    }

    #[test]
    fn a_destination_that_fails_loses_lines_and_counts_them() {
        let (output, _thread) = started();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        output.set_log(Some((STREAM, writer)));
        output.log_lines(chunk("a\nb\n"));
        output.drain(Duration::from_secs(5));
        assert_eq!(counts(&output), [0, 2, 0]);
    }
}
