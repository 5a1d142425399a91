//! The binary `brattice`.

use std::process::ExitCode;

fn main() -> ExitCode {
    brattice_cli::main()
}
