//! Tries what a host user may try: `probe tcp|udp|listen|listen-udp ADDRESS...`. The tests run it under other users.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

const LIMIT: Duration = Duration::from_millis(700);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<String> {
    match words {
        // From an address (port 0: any) to an address: connects and sends a request.
        ["tcp", from, to] => {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse()?, to.parse()?);
            let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
            if from.is_ipv6() {
                // An address of a local route is no interface's.
                socket.set_freebind_v6(true)?;
            }
            socket.bind(&from.into()).context("cannot bind")?;
            socket.connect_timeout(&to.into(), LIMIT).context("cannot connect")?;
            let mut stream: TcpStream = socket.into();
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            Ok(format!("connected {}", answer.lines().next().unwrap_or_default()))
        }
        // From an address to an address: sends a datagram, without waiting for an answer.
        ["udp", from, to] => {
            let socket = UdpSocket::bind(from.parse::<SocketAddr>()?).context("cannot bind")?;
            for _ in 0..3 {
                let _ = socket.send_to(b"probe", to.parse::<SocketAddr>()?).context("cannot send")?;
            }
            Ok("sent".to_owned())
        }
        // Listens for this many milliseconds; fails without a connection.
        ["listen", at, milliseconds] => {
            let listener = TcpListener::bind(at.parse::<SocketAddr>()?).context("cannot bind")?;
            listener.set_nonblocking(true)?;
            println!("listening");
            let deadline = Instant::now() + Duration::from_millis(milliseconds.parse()?);
            while Instant::now() < deadline {
                if let Ok((_, peer)) = listener.accept() {
                    return Ok(format!("accepted {peer}"));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            bail!("nobody came")
        }
        // Waits for a datagram for this many milliseconds; fails if none comes.
        ["listen-udp", at, milliseconds] => {
            let socket = UdpSocket::bind(at.parse::<SocketAddr>()?).context("cannot bind")?;
            socket.set_read_timeout(Some(Duration::from_millis(milliseconds.parse()?)))?;
            println!("listening");
            let (length, peer) = socket.recv_from(&mut [0; 100]).context("nothing came")?;
            Ok(format!("received {length} bytes from {peer}"))
        }
        _ => bail!("probe tcp FROM TO | udp FROM TO | listen AT MS | listen-udp AT MS"),
    }
}
