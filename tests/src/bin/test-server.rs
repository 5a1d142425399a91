//! The test server as a process of its own: `test-server NAME PORT`, in the namespace it is started in.

use anyhow::{Context, Result};
use brattice_tests::server::serve_here;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("test-server NAME PORT")?;
    let port = arguments.next().context("test-server NAME PORT")?.parse().context("PORT is a number")?;
    serve_here(&name, port);
    Ok(())
}
