//! What a look-up costs, by the number of rules: `cargo bench -p brattice-router`.

#![allow(missing_docs)] // The macros of criterion write public functions.
#![allow(clippy::unwrap_used)] // A panic in a benchmark is the report.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use brattice_router::{Router, path::normalize};
use brattice_wire::rules::{Precedence, Rule};
use common::{Asked, asked, matches, rule};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// How the n-th rule is told from the others, and a request that only it matches.
type Shape = (&'static str, fn(usize) -> String, fn(usize) -> Asked);

const SHAPES: [Shape; 7] = [
    ("path exact", |n| format!("path=/svc-{n}/v1/orders"), |n| asked("GET", &format!("/svc-{n}/v1/orders"))),
    ("path prefix", |n| format!("path^/svc-{n}"), |n| asked("GET", &format!("/svc-{n}/v1/orders"))),
    ("path in any case", |n| format!("i:path^/svc-{n}"), |n| asked("GET", &format!("/Svc-{n}/v1/orders"))),
    ("host", |n| format!("host=s{n}.internal path^/v1"), |n| asked("GET", "/v1/a").host(&format!("s{n}.internal"))),
    ("host suffix", |n| format!("host$s{n}.internal"), |n| asked("GET", "/").host(&format!("a.s{n}.internal"))),
    ("method", |n| format!("method=M{n}"), |n| asked(&format!("M{n}"), "/v1/orders")),
    ("header", |n| format!("path^/a h.x-tenant=t{n}"), |n| asked("GET", "/a").header("x-tenant", &format!("t{n}"))),
];

fn compile(line: fn(usize) -> String, count: usize) -> Router {
    let numbered = (0..count).map(|n| rule("r", u16::try_from(n).unwrap(), matches(&line(n))));
    Router::compile(Precedence::Priority, &numbered.collect::<Vec<Rule>>()).unwrap()
}

fn curve(bench: &mut Criterion) {
    for (name, line, request) in SHAPES {
        let mut group = bench.benchmark_group(name);
        for count in [1, 10, 100, 1_000, 10_000] {
            let router = compile(line, count);
            // Spread over the rules, so that caches help no more than they would.
            let requests: Vec<Asked> = (0..count).step_by((count / 1_000).max(1)).map(request).collect();
            let mut next = requests.iter().cycle();
            group.bench_function(BenchmarkId::from_parameter(count), |bench| {
                bench.iter(|| router.find(black_box(next.next().unwrap())).unwrap());
            });
        }
        group.finish();
    }
}

/// What no table holds: linear in the rules of one host and path.
fn linear(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("header regex, last of");
    for count in [1, 10, 100, 1_000] {
        let router = compile(|n| format!("path^/a h.x-tenant~t{n}(-.*)?"), count);
        let request = asked("GET", "/a").header("x-tenant", &format!("t{}-x", count - 1));
        group.bench_function(BenchmarkId::from_parameter(count), |bench| {
            bench.iter(|| router.find(black_box(&request)).unwrap());
        });
    }
    group.finish();
}

fn paths(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("normalize");
    for (name, path) in [("normal", "/v1/orders/4711/items"), ("not normal", "/v1/../v1//orders/%34711/./items")] {
        group.bench_function(name, |bench| bench.iter(|| normalize(black_box(path)).unwrap().len()));
    }
    group.finish();
}

criterion_group!(benches, curve, linear, paths);
criterion_main!(benches);
