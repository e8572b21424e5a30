//! Transactions with far too many operations, refused before they are read: an operation takes two bytes of a message, and
//! fifty times as many once it is read.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    middleware::Next,
    response::Response,
};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use regrow_store::{Error, limits::TXN_OPS_MAX};
use tonic::Status;

use super::{
    limits::{MESSAGE_BYTES_MAX, TXN_PARTS_MAX},
    refusal,
};

const PATH: &str = "/etcdserverpb.KV/Txn";

/// Bytes before a message of gRPC.
const HEAD: usize = 5;

/// Messages within messages, as far as the decoder reads them.
const DEPTH_MAX: usize = 100;

/// Checks what comes by the routes.
pub(super) async fn checked(request: Request, next: Next) -> Response {
    if request.uri().path() != PATH {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, HEAD + MESSAGE_BYTES_MAX).await else {
        let text = format!("Error, decoded message length too large: the limit is: {MESSAGE_BYTES_MAX} bytes");
        return Status::out_of_range(text).into_http();
    };
    match check(bytes.get(HEAD..).unwrap_or_default()) {
        Ok(()) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(status) => status.into_http(),
    }
}

/// Checks an encoded `TxnRequest`. What cannot be read is left to the decoder.
pub(super) fn check(message: &[u8]) -> Result<(), Status> {
    let mut lists = [0; 4];
    for (tag, _) in fields(message) {
        lists.get_mut(tag as usize).into_iter().for_each(|count| *count += 1);
    }
    let ops = lists[1].max(lists[2]).max(lists[3]);
    let mut parts = 0;
    if ops <= TXN_OPS_MAX {
        count(message, &mut parts, DEPTH_MAX);
    }
    if ops > TXN_OPS_MAX || parts > TXN_PARTS_MAX {
        return Err(refusal(Error::TooManyOps { ops: ops.max(parts), max: TXN_OPS_MAX }));
    }
    Ok(())
}

/// Counts what a `TxnRequest` has, up to one more than may be.
fn count(message: &[u8], parts: &mut usize, depth: usize) {
    for (tag, field) in fields(message) {
        if !(1..=3).contains(&tag) {
            continue;
        }
        *parts += 1;
        if *parts > TXN_PARTS_MAX {
            return;
        }
        // A comparison has none within, a `RequestOp` has at most a `TxnRequest`, in as many pieces as it likes.
        if tag != 1 && depth >= 2 {
            fields(field).filter(|(tag, _)| *tag == 4).for_each(|(_, inner)| count(inner, parts, depth - 2));
        }
    }
}

/// The fields of a message that have a length, up to what is not understood.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    std::iter::from_fn(move || {
        while !message.is_empty() {
            let (tag, kind) = decode_key(&mut message).ok()?;
            if kind != WireType::LengthDelimited {
                skip_field(kind, tag, &mut message, DecodeContext::default()).ok()?;
                continue;
            }
            let len = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            let (field, rest) = message.split_at_checked(len)?;
            message = rest;
            return Some((tag, field));
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use regrow_store::proto::etcdserverpb::{self as pb, request_op::Request as Op};

    use super::*;

    fn txn(success: usize, failure: usize, within: Option<pb::TxnRequest>) -> pb::TxnRequest {
        let mut txn = pb::TxnRequest { success: vec![pb::RequestOp::default(); success], ..Default::default() };
        txn.failure = vec![pb::RequestOp::default(); failure];
        txn.success.extend(within.map(|within| pb::RequestOp { request: Some(Op::RequestTxn(within)) }));
        txn
    }

    /// Operations are counted wherever they are, and what is no transaction is left to the decoder.
    #[test]
    fn too_many_are_refused() {
        let value = pb::PutRequest { key: "k".into(), value: vec![8; 8 * TXN_PARTS_MAX].into(), ..Default::default() };
        let mut large = txn(2, 0, None);
        large.success[0].request = Some(Op::RequestPut(value));
        for (message, is_good) in [
            (txn(TXN_OPS_MAX, TXN_OPS_MAX, None).encode_to_vec(), true),
            (txn(TXN_OPS_MAX + 1, 0, None).encode_to_vec(), false),
            (txn(0, TXN_OPS_MAX + 1, None).encode_to_vec(), false),
            (txn(2, 0, Some(txn(0, TXN_PARTS_MAX - 3, None))).encode_to_vec(), true),
            (txn(2, 0, Some(txn(0, TXN_PARTS_MAX - 2, None))).encode_to_vec(), false),
            (txn(0, 0, Some(txn(0, 0, Some(txn(TXN_PARTS_MAX, 0, None))))).encode_to_vec(), false),
            (large.encode_to_vec(), true),
            (vec![0xff; 4 * TXN_PARTS_MAX], true),
            ([&[0x0a, 0xff, 0xff, 0xff][..], &vec![0; 4 * TXN_PARTS_MAX]].concat(), true),
        ] {
            let refused = check(&message).err().map(|status| status.message().to_owned());
            let expect = (!is_good).then(|| "etcdserver: too many operations in txn request".to_owned());
            assert_eq!(refused, expect, "{} bytes", message.len());
        }
    }
}
