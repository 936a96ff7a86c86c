//! `--port key=value,key=value,...`: one port in one argument.
//!
//! The form is QEMU's and cloud-hypervisor's, without their escapes: a value cannot hold a comma.
//! (A socket path with one can be given by `--socket-path` or in a file.) Every faulty piece is
//! reported, and the rest is still read, so that one typing error does not hide the next.

use crate::config::raw_options::{RawOptions, Source, known_key, meant_key};

/// Reads the n-th `--port` (from 1).
pub fn read(number: usize, text: &str, faults: &mut Vec<String>) -> RawOptions {
    let mut words = RawOptions::new(Source::PortArg(number));
    let mut wrong = Vec::new();
    if text.is_empty() {
        wrong.push("is empty; write socket=PATH,parent=DEV".to_owned());
    }
    for piece in text.split(',').filter(|_| !text.is_empty()) {
        if let Err(fault) = read_piece(piece, &mut words) {
            wrong.push(fault);
        }
    }
    // Only now, because the socket that names the port may come last.
    faults.extend(wrong.into_iter().map(|fault| format!("{}: {fault}", words.label())));
    words
}

fn read_piece(piece: &str, words: &mut RawOptions) -> Result<(), String> {
    if piece.is_empty() {
        return Err("nothing between two commas; remove one".to_owned());
    }
    let Some((key, value)) = piece.split_once('=') else {
        return Err(match known_key(piece) {
            Ok(key) => {
                words.spoil(key);
                format!("'{key}' has no value; write {key}=VALUE")
            }
            Err(_) => {
                let meant = meant_key(piece);
                meant.into_iter().for_each(|key| words.spoil(key));
                let question = meant.map_or(String::new(), |key| format!("; did you mean {key}=?"));
                format!("'{piece}' has no '='; write key=value, joined by commas{question}")
            }
        });
    };
    let key = known_key(key).inspect_err(|_| {
        meant_key(key).into_iter().for_each(|meant| words.spoil(meant));
    })?;
    if value.is_empty() {
        words.spoil(key);
        return Err(format!("{key}=: empty; give a value or leave the key out"));
    }
    if !words.add(key, value.to_owned(), None) {
        return Err(format!("{key}={value}: {key} is given twice; keep one"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw_options::KEYS;

    fn faults(text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        read(2, text, &mut faults);
        faults
    }

    #[test]
    fn reads_keys_and_values() {
        let mut faults = Vec::new();
        let words = read(1, "socket=/run/x=1.sock,source=02:0:0:0:0:1+02:0:0:0:0:2", &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(words.text("socket"), Some("/run/x=1.sock"));
        assert_eq!(words.text("source"), Some("02:0:0:0:0:1+02:0:0:0:0:2"));
        assert_eq!(words.text("mtu"), None);
    }

    #[test]
    fn names_every_faulty_piece() {
        let keys = KEYS.join(", ");
        let unknown = format!(
            "--port 2 (socket=/s): 'queues' is not a key of a port; did you mean queue-pairs? The keys are {keys}"
        );
        assert_eq!(
            faults("queues=2,mtu,foo,mode=,mtu=1400,mtu=1500,,socket=/s"),
            [
                unknown.as_str(),
                "--port 2 (socket=/s): 'mtu' has no value; write mtu=VALUE",
                "--port 2 (socket=/s): 'foo' has no '='; write key=value, joined by commas",
                "--port 2 (socket=/s): mode=: empty; give a value or leave the key out",
                "--port 2 (socket=/s): mtu=1500: mtu is given twice; keep one",
                "--port 2 (socket=/s): nothing between two commas; remove one",
            ]
        );
        assert_eq!(faults(""), ["--port 2: is empty; write socket=PATH,parent=DEV"]);
    }
}
