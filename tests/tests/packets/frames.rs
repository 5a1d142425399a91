//! Frames onto a real link.

use std::os::fd::AsRawFd;

/// Sends a frame out of an interface of the calling thread's namespace.
pub(crate) fn send_frame(interface: &str, frame: &[u8]) {
    use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, sendto};
    let socket =
        nix::sys::socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll)
            .expect("a packet socket (needs root)");
    let index = nix::net::if_::if_nametoindex(interface).expect("there");
    let address = link_address(index);
    assert!(LinkAddr::size() as usize >= size_of_val(&address));
    match sendto(socket.as_raw_fd(), frame, &address, MsgFlags::empty()) {
        // The packet was made, and dropped by a program on its way out.
        Ok(_) | Err(nix::errno::Errno::ENOBUFS) => {}
        Err(e) => panic!("cannot send: {e}"),
    }
}

/// `struct sockaddr_ll` of an interface.
#[allow(unsafe_code, reason = "nix makes this address from a raw one only")]
fn link_address(index: u32) -> nix::sys::socket::LinkAddr {
    use nix::sys::socket::SockaddrLike;
    let raw = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is to a whole sockaddr_ll, and the length is its own.
    unsafe {
        nix::sys::socket::LinkAddr::from_raw(
            (&raw const raw).cast(),
            Some(size_of::<libc::sockaddr_ll>() as libc::socklen_t),
        )
    }
    .expect("a link address")
}
