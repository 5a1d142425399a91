//! A guest boots, runs a script, and reports its exit code. Needs qemu and, the first time, Debian's archive.
#![allow(missing_docs)]

use std::{path::Path, time::Duration};

use brattice_machine::{Guest, Initramfs, Kernel, Options};

fn kernel() -> Kernel {
    Kernel::of("6.1", Path::new("../../target/kernels")).expect("a kernel")
}

#[test]
fn a_script_runs_and_its_exit_code_is_told() {
    let kernel = kernel();
    let mut files = Initramfs::new(&kernel).expect("busybox");
    files.modules(&["veth", "bridge"]).expect("modules");
    files.program("ip").expect("iproute2");
    files.script("uname -r\nip link add left type veth peer name right && ip link show left\nexit 7\n");
    let outcome = Guest::start(&kernel, &files, &Options::default()).expect("qemu").wait(|_| {}).expect("an end");
    assert_eq!(outcome.code, 7, "{outcome:?}");
    assert_eq!(outcome.lines.first().map(String::as_str), Some(kernel.release.as_str()), "{outcome:?}");
    assert!(outcome.lines.iter().any(|line| line.contains("left@right")), "{outcome:?}");
}

#[test]
fn a_guest_runs_what_it_is_told_line_by_line() {
    let kernel = kernel();
    let mut files = Initramfs::new(&kernel).expect("busybox");
    files.shell();
    let options = Options { within: Duration::from_secs(60), ..Options::default() };
    let mut guest = Guest::start(&kernel, &files, &options).expect("qemu");
    guest.ready().expect("it boots");
    let first = guest.run("echo \"a $((1 + 1))\"; echo b >&2; cd /tmp; exit 3").expect("it runs");
    assert_eq!((first.code, first.text.as_str()), (3, "a 2\nb"));
    let second = guest.run("printf 'no end of line in '; pwd; cat").expect("nothing to read from");
    assert_eq!((second.code, second.text.as_str()), (0, "no end of line in /"));
    assert!(guest.run("echo a\necho b").is_err(), "one line at a time");
    assert_eq!(guest.run("true").expect("it still runs").code, 0);
}

#[test]
fn a_guest_that_hangs_or_dies_is_an_error_with_the_kernels_last_words() {
    let kernel = kernel();
    let mut files = Initramfs::new(&kernel).expect("busybox");
    files.script("echo c >/proc/sysrq-trigger\nsleep 60\n");
    let dies = Guest::start(&kernel, &files, &Options::default()).expect("qemu").wait(|_| {});
    let text = format!("{:#}", dies.expect_err("it panicked"));
    assert!(text.contains("ended early") && text.contains("sysrq"), "{text}");
    files.script("echo here\nsleep 60\n");
    let options = Options { within: Duration::from_secs(8), ..Options::default() };
    let mut output = Vec::new();
    let hangs = Guest::start(&kernel, &files, &options).expect("qemu").wait(|line| output.push(line.to_owned()));
    assert!(format!("{:#}", hangs.expect_err("it sleeps")).contains("has not ended"));
    assert_eq!(output, ["here"]);
}
