//! A WSGI server, as Python frameworks run on: header names arrive in CGI's form, where `-` and `_` are the same.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use crate::lab::{Namespace, wait_until};

/// Answers every request with its environment as JSON, and a header of the name and value that the query asks for.
const PROGRAM: &str = r#"
import json, sys, urllib.parse
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from socketserver import ThreadingMixIn

class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

class Silent(WSGIRequestHandler):
    def log_message(self, *words):
        pass

def application(environment, start_response):
    plain = {key: value for key, value in environment.items() if isinstance(value, str)}
    headers = [("content-type", "application/json")]
    headers += [(name, value) for name, value in urllib.parse.parse_qsl(environment["QUERY_STRING"])]
    start_response("200 OK", headers)
    return [json.dumps(plain).encode()]

make_server("0.0.0.0", int(sys.argv[1]), application, Server, Silent).serve_forever()
"#;

/// A running one; ends when dropped.
pub struct WsgiServer {
    child: Child,
}

impl WsgiServer {
    /// Starts one in a namespace and waits until it listens.
    ///
    /// # Panics
    /// When there is no python3, or the port is taken.
    pub fn start(namespace: &Namespace, port: u16) -> Self {
        let child = namespace
            .command("python3")
            .args(["-c", PROGRAM, &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("nsenter is there");
        let mut server = Self { child };
        wait_until("the WSGI server listens", Duration::from_secs(20), || {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("the WSGI server ended: {status}");
            }
            namespace.sh(&format!("ss -Hltn sport = :{port}")).contains(&format!(":{port}"))
        });
        server
    }
}

impl Drop for WsgiServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
