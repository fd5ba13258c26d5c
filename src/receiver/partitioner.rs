//! Which partition or shard a key belongs to: the same one on every machine and after every restart.

/// FNV-1a with a last mix, since only a spread over few partitions is asked of it.
pub(super) fn of_key(key: &str, partitions: u32) -> u32 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The upper half scaled to 0..partitions.
    let scaled = ((mixed >> 32) * u64::from(partitions)) >> 32;
    u32::try_from(scaled).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_partition() {
        assert_eq!(of_key("7528", 1), 0);
        assert_eq!(
            [of_key("7528", 5), of_key("7528", 5)],
            [of_key("7528", 5); 2]
        );
    }

    #[test]
    fn keys_spread_over_all_partitions() {
        let mut counts = [0_u32; 7];
        for key in 0..7000 {
            counts[of_key(&key.to_string(), 7) as usize] += 1;
        }
        assert!(
            counts.iter().all(|&count| (800..1200).contains(&count)),
            "{counts:?}"
        );
    }
}
