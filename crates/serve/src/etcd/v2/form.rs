//! Forms as Go's `net/http` reads them: fields of the body before those of the query.

/// The fields of a request, bytes as they were sent.
#[derive(Debug, Default)]
pub(super) struct Form(Vec<(Vec<u8>, Vec<u8>)>);

impl Form {
    /// Reads a body and a query. Errors: what is wrong with it.
    pub(super) fn parse(body: &[u8], query: &[u8]) -> Result<Self, String> {
        let mut fields = Vec::new();
        for field in body.split(|byte| *byte == b'&').chain(query.split(|byte| *byte == b'&')) {
            if field.contains(&b';') {
                return Err("invalid semicolon separator in query".to_owned());
            }
            if field.is_empty() {
                continue;
            }
            let (name, value) = match field.iter().position(|byte| *byte == b'=') {
                Some(at) => (&field[..at], &field[at + 1..]),
                None => (field, &b""[..]),
            };
            fields.push((unescape(name, true)?, unescape(value, true)?));
        }
        Ok(Self(fields))
    }

    /// The first value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(field, _)| field == name.as_bytes()).map(|(_, value)| &value[..])
    }

    /// A number of 64 bits without a sign. Errors: it is none.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, NotOne> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let text = str::from_utf8(value).ok().filter(|_| digits);
        text.and_then(|text| text.parse().ok()).map(Some).ok_or(NotOne)
    }

    /// Yes or no, in one of the ways that Go knows. Errors: it is neither.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, NotOne> {
        match self.get(name) {
            None => Ok(None),
            Some(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => Ok(Some(true)),
            Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => Ok(Some(false)),
            Some(_) => Err(NotOne),
        }
    }
}

/// A value that is no number, or no flag.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotOne;

/// Bytes behind percent signs; `plus`: a `+` is a space. Errors: a percent sign without two hexadecimal digits.
pub(super) fn unescape(text: &[u8], plus: bool) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'%' => {
                let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
                    let some = &text[at..text.len().min(at + 3)];
                    return Err(format!("invalid URL escape \"{}\"", some.escape_ascii()));
                };
                bytes.push((high * 16 + low) as u8);
                at += 2;
            }
            b'+' if plus => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
        at += 1;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body goes before the query, the first of several values counts, and escapes are undone.
    #[test]
    fn fields_are_read_as_go_reads_them() {
        let form = Form::parse(b"value=a+b%26%ff&&dir&ttl=5", b"value=c&prevIndex=18446744073709551615&x=y=z")
            .expect("a form");
        assert_eq!(form.get("value"), Some(&b"a b&\xff"[..]));
        assert_eq!((form.get("dir"), form.get("x"), form.get("none")), (Some(&b""[..]), Some(&b"y=z"[..]), None));
        assert_eq!(
            (form.number("ttl"), form.number("prevIndex"), form.number("none")),
            (Ok(Some(5)), Ok(Some(u64::MAX)), Ok(None))
        );
        assert_eq!(form.flag("dir"), Err(NotOne));
        for (text, expect) in [("%", "%"), ("a=%4", "%4"), ("%zz1=", "%zz")] {
            assert_eq!(Form::parse(text.as_bytes(), b"").err(), Some(format!("invalid URL escape \"{expect}\"")));
        }
        assert!(Form::parse(b"", b"a=1;b=2").is_err());
    }

    /// Numbers and flags are what Go takes for them.
    #[test]
    fn numbers_and_flags() {
        let one = |value: &str| Form::parse(format!("x={value}").as_bytes(), b"").expect("a form");
        for (value, expect) in
            [("true", Ok(Some(true))), ("F", Ok(Some(false))), ("yes", Err(NotOne)), ("", Err(NotOne))]
        {
            assert_eq!(one(value).flag("x"), expect, "{value}");
        }
        for bad in ["", "-1", "1.5", "0x1", "%2B1", "18446744073709551616", "1_0"] {
            assert_eq!(one(bad).number("x"), Err(NotOne), "{bad}");
        }
    }
}
