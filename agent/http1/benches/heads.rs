//! What it costs to read a head, beside httparse, which does not look at framing: `cargo bench -p brattice-http1`.

#![allow(missing_docs)] // The macros of criterion write public functions.
#![allow(clippy::unwrap_used)] // A panic in a benchmark is the report.

use std::hint::black_box;

use brattice_http1::{Edits, Known, Limits, RequestHead, RequestReader, ResponseHead, ResponseReader, Version, write};
use bytes::BytesMut;
use criterion::{Criterion, criterion_group, criterion_main};

const REQUESTS: Limits = Limits::requests(60 * 1024, 100);
const RESPONSES: Limits = Limits::responses(128 * 1024, 100, 32, 256 * 1024);

/// Eight fields, as a client in a program sends them.
const GET: &[u8] = b"GET /v1/orders/4711?expand=items HTTP/1.1\r\nHost: orders.shop.internal\r\nUser-Agent: python-requests/2.32.3\r\n\
    Accept-Encoding: gzip, deflate\r\nAccept: application/json\r\nConnection: keep-alive\r\n\
    Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0\r\n\
    X-Request-Id: 0c1e8a5e-1f2d-4c3b-9a8b-7c6d5e4f3a2b\r\nX-Tenant: blue\r\n\r\n";
const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 30 Nov 2026 23:00:00 GMT\r\nContent-Type: application/json\r\n\
    Content-Length: 512\r\nConnection: keep-alive\r\nVary: Accept-Encoding\r\n\r\n";

fn requests(bench: &mut Criterion) {
    for (name, bytes) in [("a GET of 8 fields", GET), ("a GET of 1 field", SMALL)] {
        let mut group = bench.benchmark_group(name);
        let (mut reader, mut head) = (RequestReader::new(&REQUESTS), RequestHead::default());
        group.bench_function("brattice-http1", |bench| {
            bench.iter(|| black_box(reader.read(black_box(bytes), &mut head)).unwrap().unwrap());
        });
        group.bench_function("httparse", |bench| {
            bench.iter(|| {
                let mut fields = [httparse::EMPTY_HEADER; 100];
                black_box(httparse::Request::new(&mut fields).parse(black_box(bytes))).unwrap().unwrap()
            });
        });
        group.bench_function("httparse, 16 fields at most", |bench| {
            bench.iter(|| {
                let mut fields = [httparse::EMPTY_HEADER; 16];
                black_box(httparse::Request::new(&mut fields).parse(black_box(bytes))).unwrap().unwrap()
            });
        });
        group.finish();
    }
}

fn responses(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("a response of 6 fields");
    let (mut head, mut bytes) = (ResponseHead::default(), RESPONSE.to_vec());
    group.bench_function("brattice-http1", |bench| {
        bench.iter(|| {
            let mut reader = ResponseReader::new(&RESPONSES, false);
            black_box(reader.read(black_box(&mut bytes), &mut head)).unwrap().unwrap()
        });
    });
    group.bench_function("httparse, 16 fields at most", |bench| {
        bench.iter(|| {
            let mut fields = [httparse::EMPTY_HEADER; 16];
            black_box(httparse::Response::new(&mut fields).parse(black_box(RESPONSE))).unwrap().unwrap()
        });
    });
    group.finish();
}

/// The changes of a usual request, and its head for the target.
fn writing(bench: &mut Criterion) {
    let mut head = RequestHead::default();
    RequestReader::new(&REQUESTS).read(GET, &mut head).unwrap().unwrap();
    let (mut edits, mut out) = (Edits::default(), BytesMut::with_capacity(2048));
    bench.bench_function("edit and write a GET of 8 fields", |bench| {
        bench.iter(|| {
            let request = black_box(&head).on(GET);
            let fields = request.fields();
            edits.clear();
            out.clear();
            edits.remove(fields, Known::Connection);
            for (name, value) in [
                (Known::XForwardedFor, &b"10.0.0.10"[..]),
                (Known::XForwardedPort, b"80"),
                (Known::XForwardedProto, b"http"),
                (Known::XAmznRequestid, b"0c1e8a5e-1f2d-4c3b-9a8b-7c6d5e4f3a2b"),
            ] {
                edits.set(fields, name, value).unwrap();
            }
            let line = (request.method_bytes(), &[request.target()][..]);
            write::request(&mut out, 60 * 1024, line, fields.edited(&edits)).unwrap();
            black_box(out.len())
        });
    });
    let mut answer = ResponseHead::default();
    let mut bytes = RESPONSE.to_vec();
    ResponseReader::new(&RESPONSES, false).read(&mut bytes, &mut answer).unwrap().unwrap();
    bench.bench_function("edit and write a response of 6 fields", |bench| {
        bench.iter(|| {
            let fields = black_box(&answer).on(RESPONSE).fields();
            edits.clear();
            out.clear();
            edits.remove(fields, Known::Connection);
            edits.set(fields, Known::XAmznRequestid, b"0c1e8a5e-1f2d-4c3b-9a8b-7c6d5e4f3a2b").unwrap();
            let line = (Version::Http11, answer.status, answer.on(RESPONSE).reason());
            write::response(&mut out, 60 * 1024, line, fields.edited(&edits)).unwrap();
            black_box(out.len())
        });
    });
}

criterion_group!(benches, requests, responses, writing);
criterion_main!(benches);
