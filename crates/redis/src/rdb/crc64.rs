//! The checksum of snapshots and of `DUMP`.

/// CRC64 after Jones: polynomial 0xad93d23594c935a9, reflected, start 0. `crc`: that of the bytes before, 0 at the start.
pub fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    let mut crc = crc;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        crc ^= u64::from_le_bytes(chunk.try_into().expect("chunks_exact(8) gives 8 bytes"));
        let mut next = 0;
        for (index, byte) in crc.to_le_bytes().into_iter().enumerate() {
            next ^= TABLES[7 - index][usize::from(byte)];
        }
        crc = next;
    }
    chunks.remainder().iter().fold(crc, |crc, byte| TABLES[0][usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

/// Eight bytes at a time, because a snapshot is read at the speed of its checksum.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0x95ac_9329_ac4b_c9b5 };
            bit += 1;
        }
        tables[0][index] = crc;
        index += 1;
    }
    let mut level = 1;
    while level < 8 {
        let mut index = 0;
        while index < 256 {
            let crc = tables[level - 1][index];
            tables[level][index] = tables[0][(crc & 0xff) as usize] ^ (crc >> 8);
            index += 1;
        }
        level += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::crc64;

    /// The check value of `crc64.c`, and that it does not matter how the bytes are cut.
    #[test]
    fn known_answer() {
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let bytes: Vec<u8> = (0..200).collect();
        for cut in 0..bytes.len() {
            assert_eq!(crc64(crc64(0, &bytes[..cut]), &bytes[cut..]), crc64(0, &bytes));
        }
    }
}
