#![no_std]
#![no_main]
use aya_ebpf::{macros::classifier, programs::TcContext};
#[classifier]
pub fn workload_ingress(_ctx: TcContext) -> i32 { -1 }
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
