//! Values that say which key they belong to.

/// The value of a key: so many bytes, at least eight, of which the last eight are the key's number.
pub(crate) fn payload(id: u64, bytes: usize) -> Vec<u8> {
    let number = id.to_le_bytes();
    let mut value = vec![number[0]; bytes.saturating_sub(number.len())];
    value.extend_from_slice(&number);
    value
}

/// The number that a value ends with. No key has the number that a value too short for one gives.
pub(crate) fn owner(value: &[u8]) -> u64 {
    value.last_chunk().map_or(u64::MAX, |number| u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_length_and_names_its_key() {
        for bytes in [8, 128, 4_096] {
            let value = payload(0x0102_0304_0506_0708, bytes);
            assert_eq!((value.len(), owner(&value)), (bytes, 0x0102_0304_0506_0708));
        }
    }

    #[test]
    fn what_is_too_short_to_name_a_key_names_none() {
        assert_eq!(owner(b"short"), u64::MAX);
    }
}
