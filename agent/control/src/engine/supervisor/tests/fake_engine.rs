//! An engine that does what a test wants of it, and nothing else.

use super::*;

/// Serves until the test ends; `behaviour` is words.
pub(super) async fn run(folder: &std::path::Path, behaviour: &str) {
    let has = |word: &str| behaviour.split(' ').any(|w| w == word);
    if has("crash") {
        std::process::exit(3);
    }
    if has("slow") {
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    let mut sockets: Vec<OwnedFd> = Vec::new();
    let mut metrics: Option<OwnedFd> = None;
    let mut revision = 0;
    let first = std::os::unix::net::UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    first.set_nonblocking(true).unwrap();
    nix::unistd::dup2_stdin(std::fs::File::open("/dev/null").unwrap()).unwrap();
    let mut next = Some(UnixStream::from_std(first).unwrap());
    let mut door: Option<tokio::net::UnixListener> = None;
    let mut redials = has("redial");
    loop {
        // Descriptors whose message has not been read yet.
        let mut arrived: Vec<OwnedFd> = Vec::new();
        let stream = match (next.take(), &door) {
            (Some(first), _) => first,
            // No agent started it.
            (None, None) => return,
            (None, Some(door)) => match tokio::time::timeout(Duration::from_millis(200), door.accept()).await {
                Ok(accepted) => accepted.unwrap().0,
                Err(_) if folder.exists() => continue,
                Err(_) => return,
            },
        };
        let running =
            (!sockets.is_empty()).then(|| Running { settings: settings(), revision, metrics: metrics.is_some() });
        let version = if has("version") { 99 } else { PROTOCOL_VERSION };
        let hello = if has("wrong-hello") {
            FromEngine::Applied { revision: 1 }
        } else {
            FromEngine::Hello { version, running }
        };
        let fds: Vec<BorrowedFd<'_>> = sockets.iter().chain(&metrics).map(|fd| fd.as_fd()).collect();
        let _ = send(&stream, &encode(&hello, MAX_FROM_ENGINE).unwrap(), &fds).await;
        // The agent's frames, with the descriptors of the first.
        let mut buffer = Vec::new();
        loop {
            if let Some(prefix) = buffer.first_chunk::<4>() {
                let end = 4 + body_length(*prefix, MAX_TO_ENGINE).unwrap();
                if buffer.len() >= end {
                    let message: ToEngine = decode(&buffer[4..end]).unwrap();
                    buffer.drain(..end);
                    match &message {
                        ToEngine::Start(settings) => {
                            std::fs::write(folder.join("halvings"), settings.halvings.to_string()).unwrap();
                            sockets = arrived.drain(..descriptor_count(WORKERS, false)).collect();
                            let listener = std::os::unix::net::UnixListener::from(arrived.remove(0));
                            listener.set_nonblocking(true).unwrap();
                            door = Some(tokio::net::UnixListener::from_std(listener).unwrap());
                        }
                        ToEngine::Snapshot(snapshot) => revision = snapshot.revision,
                        ToEngine::AccessLog(Some(log)) => {
                            assert!(log.file && log.sample == 3);
                            write(arrived.remove(0), &format!("{}\n", std::process::id()));
                        }
                        ToEngine::Metrics(given) => metrics = given.then(|| arrived.remove(0)),
                        ToEngine::Attend(query) => write(arrived.remove(0), &format!("{query:?}\n")),
                        _ => {}
                    }
                    respond(&stream, &message, behaviour).await;
                    if matches!(message, ToEngine::Snapshot(_)) {
                        if has("hangs-up") {
                            drop((stream, door));
                            while folder.exists() {
                                tokio::time::sleep(Duration::from_millis(200)).await;
                            }
                            return;
                        }
                        if std::mem::take(&mut redials) {
                            break;
                        }
                    }
                    continue;
                }
            }
            let received = stream
                .async_io(tokio::io::Interest::READABLE, || {
                    let mut bytes = [0; 4096];
                    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
                    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
                    let flags = rustix::net::RecvFlags::DONTWAIT;
                    let read = rustix::net::recvmsg(
                        &stream,
                        &mut [std::io::IoSliceMut::new(&mut bytes)],
                        &mut control,
                        flags,
                    )?;
                    for message in control.drain() {
                        if let rustix::net::RecvAncillaryMessage::ScmRights(fds) = message {
                            arrived.extend(fds);
                        }
                    }
                    buffer.extend_from_slice(&bytes[..read.bytes]);
                    Ok(read.bytes)
                })
                .await;
            if !matches!(received, Ok(1..)) {
                break;
            }
        }
    }
}

fn write(fd: OwnedFd, text: &str) {
    std::io::Write::write_all(&mut std::fs::File::from(fd), text.as_bytes()).unwrap();
}

async fn respond(stream: &UnixStream, message: &ToEngine, behaviour: &str) {
    let has = |word: &str| behaviour.split(' ').any(|w| w == word);
    let say = async |message: &FromEngine| {
        let _ = send(stream, &encode(message, MAX_FROM_ENGINE).unwrap(), &[]).await;
    };
    match message {
        ToEngine::Snapshot(snapshot) => {
            let revision = snapshot.revision;
            match behaviour {
                "junk" => drop(send(stream, &[0, 0, 0, 1, 0xff], &[]).await),
                "huge" => drop(send(stream, &[0xff; 64], &[]).await),
                "future" => say(&FromEngine::Applied { revision: revision + 1 }).await,
                "token" => say(&FromEngine::AliasesClosed { token: 77 }).await,
                "flood" => {
                    for _ in 0..MAX_MESSAGES_PER_SECOND * 2 {
                        say(&FromEngine::Applied { revision }).await;
                    }
                }
                "descriptors" => {
                    let frame = encode(&FromEngine::Applied { revision }, MAX_FROM_ENGINE).unwrap();
                    let _ = send(stream, &frame, &[stream.as_fd()]).await;
                }
                "wordy" => {
                    let limits_hit = vec![("x".repeat(MAX_STATS_NAME + 1), 1)];
                    say(&FromEngine::Stats(Stats { limits_hit, ..Stats::default() })).await;
                }
                _ => say(&FromEngine::Applied { revision }).await,
            }
        }
        ToEngine::Ping if !has("mute") => say(&FromEngine::Pong).await,
        ToEngine::CloseAliases { token, .. } if !has("silent") && !has("mute") => {
            say(&FromEngine::AliasesClosed { token: *token }).await;
        }
        ToEngine::Stats => say(&FromEngine::Stats(Stats { requests: 42, ..Stats::default() })).await,
        ToEngine::Shutdown { .. } if !has("deaf") => std::process::exit(0),
        _ => {}
    }
}
