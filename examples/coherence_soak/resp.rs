//! As much of Redis' protocol as the proxy needs: where a reply ends, and what it is.

/// The length of the first reply in `bytes`; `None` if it is not all there. What is no reply at all is passed on as it is.
pub(crate) fn reply_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    // Replies that are still to come, those within others included.
    let mut open = 1_u64;
    while open > 0 {
        open -= 1;
        let line = at + line_length(&bytes[at..])?;
        let text = bytes.get(at + 1..line - 2).and_then(|text| std::str::from_utf8(text).ok());
        let number = text.and_then(|text| text.parse::<i64>().ok());
        // None, and what is streamed, has no length.
        let length = number.and_then(|number| u64::try_from(number).ok());
        let kind = bytes[at];
        at = line;
        match (kind, length) {
            (b'$' | b'=' | b'!', Some(length)) => at += usize::try_from(length).ok()? + 2,
            (b'*' | b'~' | b'>', Some(length)) => open += length,
            (b'%', Some(length)) => open += 2 * length,
            (b'|', Some(length)) => open += 2 * length + 1,
            _ => {}
        }
        if at > bytes.len() {
            return None;
        }
    }
    Some(at)
}

/// With its end.
fn line_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|two| two == b"\r\n").map(|end| end + 2)
}

/// Whether a reply is a message that somebody published.
pub(crate) fn is_message(reply: &[u8]) -> bool {
    let Some(line) = reply.first().filter(|kind| matches!(kind, b'*' | b'>')).and_then(|_| line_length(reply)) else {
        return false;
    };
    [&b"$7\r\nmessage\r\n"[..], b"$8\r\nsmessage\r\n", b"$8\r\npmessage\r\n"].iter().any(|kind| reply[line..].starts_with(kind))
}

/// Whether a request subscribes to something.
pub(crate) fn is_subscription(request: &[u8]) -> bool {
    let word = b"SUBSCRIBE\r\n";
    request.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
}
