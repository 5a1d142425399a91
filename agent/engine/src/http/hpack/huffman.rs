//! The Huffman code of HPACK (RFC 7541, 5.2 and appendix B). It is canonical: codes of one length follow each other in the
//! order of their symbols, so the lengths say all of it.

/// The end of a string, which must not be written out.
const END: usize = 256;
const SYMBOLS: usize = 257;
const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// Bits of each symbol's code.
#[rustfmt::skip]
const BITS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15,
    6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23,
    23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22,
    22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26,
    27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27,
    26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// By length of code: the first code, and where its symbol is in `ordered`.
struct Codes {
    first: [u32; LONGEST + 2],
    place: [usize; LONGEST + 2],
    ordered: [u16; SYMBOLS],
}

const CODES: Codes = {
    let mut codes = Codes { first: [0; LONGEST + 2], place: [0; LONGEST + 2], ordered: [0; SYMBOLS] };
    let (mut place, mut code, mut length) = (0, 0_u32, SHORTEST);
    while length <= LONGEST + 1 {
        codes.first[length] = code;
        codes.place[length] = place;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if BITS[symbol] as usize == length {
                codes.ordered[place] = symbol as u16;
                place += 1;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    codes
};

/// Calls `each` with the bytes that a string stands for. `None`: it stands for nothing.
pub(super) fn decode(coded: &[u8], mut each: impl FnMut(u8)) -> Option<()> {
    let (mut code, mut length) = (0_u32, 0_usize);
    for byte in coded {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            length += 1;
            if length < SHORTEST {
                continue;
            }
            let place = CODES.place[length] + code.wrapping_sub(CODES.first[length]) as usize;
            if code >= CODES.first[length] && place < CODES.place[length + 1] {
                let symbol = usize::from(CODES.ordered[place]);
                if symbol == END {
                    return None;
                }
                each(u8::try_from(symbol).ok()?);
                (code, length) = (0, 0);
            } else if length == LONGEST {
                return None;
            }
        }
    }
    // What is left is the beginning of the end's code, which is all ones.
    (length < 8 && code == (1 << length) - 1).then_some(())
}

/// Writes a string.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut coded, mut bits, mut length) = (Vec::new(), 0_u64, 0);
    for byte in text {
        let symbol = u16::from(*byte);
        let place = CODES.ordered.iter().position(|own| *own == symbol).expect("each byte has a code");
        let more = usize::from(BITS[usize::from(*byte)]);
        let code = CODES.first[more] + u32::try_from(place - CODES.place[more]).expect("there are 257 codes");
        bits = bits << more | u64::from(code);
        length += more;
        while length >= 8 {
            length -= 8;
            coded.push((bits >> length & 0xff) as u8);
        }
    }
    if length > 0 {
        // Behind it ones, to a whole byte.
        let spare = 8 - length;
        coded.push(((bits << spare | ((1 << spare) - 1)) & 0xff) as u8);
    }
    coded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        decode(coded, |byte| all.push(byte)).map(|()| all)
    }

    #[test]
    fn the_standards_examples() {
        // RFC 7541, appendix C.4 and C.6.
        for (coded, text) in [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x64, 0x02], "302"),
            (&[], ""),
        ] {
            assert_eq!(decoded(coded).as_deref(), Some(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn each_symbol_is_read_back() {
        for (symbol, length) in BITS.iter().map(|bits| usize::from(*bits)).enumerate().take(END) {
            let text = [u8::try_from(symbol).unwrap()];
            let coded = encode(&text);
            assert_eq!((coded.len(), decoded(&coded).as_deref()), (length.div_ceil(8), Some(&text[..])), "{symbol}");
        }
    }

    #[test]
    fn padding_and_end_are_checked() {
        assert_eq!(decoded(&[0xff]), None, "a whole byte of padding");
        assert_eq!(decoded(&[0x00]), None, "three bits of zeros behind a digit");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "the end written out");
        assert_eq!(decoded(&[0x07]).as_deref(), Some(&b"0"[..]), "control");
    }
}
