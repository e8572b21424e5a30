//! Compression: LZW, least significant bit first, 8-bit literals, as Go's `compress/lzw` writes it, wrapped
//! in a map of `Algo` and `Buf`.

use weezl::{BitOrder, LzwStatus, decode::Decoder, encode::Encoder};

use super::{Reader, WireError, Writer, swim_type};

/// Bits of a literal. Source: memberlist `lzwLitWidth`.
const LITERAL_BITS: u8 = 8;

/// The only algorithm there is.
const ALGO_LZW: u8 = 0;

/// Bytes that are decompressed at a time, so that a bomb is noticed long before it is large.
const CHUNK_BYTES: usize = 16 * 1024;

/// A compressed message, type byte included.
pub fn compress(message: &[u8]) -> Vec<u8> {
    // The encoder writes into memory and its input is complete, so it has nothing to fail at.
    let packed = Encoder::new(BitOrder::Lsb, LITERAL_BITS).encode(message).unwrap_or_default();
    let mut writer = Writer::message(swim_type::COMPRESS);
    writer.map(2);
    writer.uint_field("Algo", u64::from(ALGO_LZW));
    writer.raw_field("Buf", &packed);
    writer.finish()
}

/// Unpacks the body of a compressed message (without its type byte).
///
/// `limit`: most bytes of the result.
/// Gives the result and how many bytes of `body` the compressed message took (a stream may go on after it).
pub fn decompress(body: &[u8], limit: usize) -> Result<(Vec<u8>, usize), WireError> {
    let mut algo = ALGO_LZW;
    let mut packed: &[u8] = &[];
    let mut reader = Reader::new(body);
    for _ in 0..reader.field_count()? {
        match reader.raw()? {
            b"Algo" => algo = reader.u8("Algo")?,
            b"Buf" => packed = reader.raw()?,
            _ => reader.skip()?,
        }
    }
    if algo != ALGO_LZW {
        return Err(WireError::UnknownCompression(algo));
    }
    Ok((unpack(packed, limit)?, reader.position()))
}

fn unpack(mut packed: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    let mut decoder = Decoder::new(BitOrder::Lsb, LITERAL_BITS);
    let mut plain = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    // Ends: every turn consumes input, produces output (bounded by `limit`), or returns.
    loop {
        let result = decoder.decode_bytes(packed, &mut chunk);
        packed = &packed[result.consumed_in..];
        plain.extend_from_slice(&chunk[..result.consumed_out]);
        if plain.len() > limit {
            return Err(WireError::Limit { what: "decompressed message", limit });
        }
        match result.status {
            Ok(LzwStatus::Done) => return Ok(plain),
            Ok(LzwStatus::Ok) if result.consumed_in + result.consumed_out > 0 => {}
            Ok(LzwStatus::Ok | LzwStatus::NoProgress) | Err(_) => {
                return Err(WireError::Compression);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that messages of every kind of content come back, the code table's overflow included.
    #[test]
    fn packed_messages_unpack() {
        let noise: Vec<u8> =
            (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(i / 7) >> 13) as u8).collect();
        for message in [vec![], vec![1], vec![0; 10_000], b"gossip gossip gossip".to_vec(), noise] {
            let bytes = compress(&message);
            assert_eq!(bytes[0], swim_type::COMPRESS);
            let (plain, used) = decompress(&bytes[1..], 1 << 20).unwrap();
            assert_eq!(plain, message);
            assert_eq!(used, bytes.len() - 1);
        }
    }

    /// Shows that a small message that would grow large is refused.
    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bytes = compress(&vec![0; 1 << 20]);
        assert_eq!(decompress(&bytes[1..], 1000), Err(WireError::Limit { what: "decompressed message", limit: 1000 }));
    }
}
