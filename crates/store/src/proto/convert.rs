//! The way between the wire's types and this crate's, in both directions.

use tonic::Status;

use super::{etcdserverpb as pb, mvccpb};
use crate::{
    CompactRequest, Compare, CompareOp, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Event, EventKind,
    KeyValue, LeaseId, Op, OpResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, Revision, SortOrder,
    SortTarget, TxnRequest, TxnResponse, WatchRequest,
};

/// What a message cannot mean; the sender's fault. Texts are etcd's where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A sort order or target that does not exist.
    #[error("etcdserver: invalid sort option")]
    Sort,
    /// A comparison or a target that does not exist.
    #[error("etcdserver: invalid compare")]
    Compare,
    /// An operation of a transaction, or its answer, that is none of those there are. etcd says it like this.
    #[error("etcdserver: key not found")]
    Op,
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Self {
        Status::invalid_argument(malformed.to_string())
    }
}

fn header(revision: Revision) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision: revision.0, ..pb::ResponseHeader::default() })
}

fn revision(header: Option<pb::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision))
}

impl From<KeyValue> for mvccpb::KeyValue {
    fn from(kv: KeyValue) -> Self {
        Self {
            key: kv.key,
            create_revision: kv.create_revision.0,
            mod_revision: kv.mod_revision.0,
            version: kv.version,
            value: kv.value,
            lease: kv.lease.0,
        }
    }
}

impl From<mvccpb::KeyValue> for KeyValue {
    fn from(kv: mvccpb::KeyValue) -> Self {
        Self {
            key: kv.key,
            value: kv.value,
            create_revision: Revision(kv.create_revision),
            mod_revision: Revision(kv.mod_revision),
            version: kv.version,
            lease: LeaseId(kv.lease),
        }
    }
}

impl From<Event> for mvccpb::Event {
    fn from(event: Event) -> Self {
        let kind = match event.kind {
            EventKind::Put => mvccpb::event::EventType::Put,
            EventKind::Delete => mvccpb::event::EventType::Delete,
        };
        Self { r#type: kind.into(), kv: Some(event.kv.into()), prev_kv: event.prev_kv.map(Into::into) }
    }
}

impl From<mvccpb::Event> for Event {
    fn from(event: mvccpb::Event) -> Self {
        let kind = match event.r#type() {
            mvccpb::event::EventType::Put => EventKind::Put,
            mvccpb::event::EventType::Delete => EventKind::Delete,
        };
        Self { kind, kv: event.kv.unwrap_or_default().into(), prev_kv: event.prev_kv.map(Into::into) }
    }
}

impl TryFrom<pb::RangeRequest> for RangeRequest {
    type Error = Malformed;

    fn try_from(request: pb::RangeRequest) -> Result<Self, Malformed> {
        use pb::range_request as wire;
        let sort_order = match wire::SortOrder::try_from(request.sort_order).map_err(|_| Malformed::Sort)? {
            wire::SortOrder::None => SortOrder::None,
            wire::SortOrder::Ascend => SortOrder::Ascend,
            wire::SortOrder::Descend => SortOrder::Descend,
        };
        let sort_target = match wire::SortTarget::try_from(request.sort_target).map_err(|_| Malformed::Sort)? {
            wire::SortTarget::Key => SortTarget::Key,
            wire::SortTarget::Version => SortTarget::Version,
            wire::SortTarget::Create => SortTarget::Create,
            wire::SortTarget::Mod => SortTarget::Mod,
            wire::SortTarget::Value => SortTarget::Value,
        };
        Ok(Self {
            key: request.key,
            range_end: request.range_end,
            limit: request.limit,
            revision: Revision(request.revision),
            sort_order,
            sort_target,
            serializable: request.serializable,
            keys_only: request.keys_only,
            count_only: request.count_only,
            min_mod_revision: Revision(request.min_mod_revision),
            max_mod_revision: Revision(request.max_mod_revision),
            min_create_revision: Revision(request.min_create_revision),
            max_create_revision: Revision(request.max_create_revision),
        })
    }
}

impl From<RangeRequest> for pb::RangeRequest {
    fn from(request: RangeRequest) -> Self {
        use pb::range_request as wire;
        let sort_order = match request.sort_order {
            SortOrder::None => wire::SortOrder::None,
            SortOrder::Ascend => wire::SortOrder::Ascend,
            SortOrder::Descend => wire::SortOrder::Descend,
        };
        let sort_target = match request.sort_target {
            SortTarget::Key => wire::SortTarget::Key,
            SortTarget::Version => wire::SortTarget::Version,
            SortTarget::Create => wire::SortTarget::Create,
            SortTarget::Mod => wire::SortTarget::Mod,
            SortTarget::Value => wire::SortTarget::Value,
        };
        Self {
            key: request.key,
            range_end: request.range_end,
            limit: request.limit,
            revision: request.revision.0,
            sort_order: sort_order.into(),
            sort_target: sort_target.into(),
            serializable: request.serializable,
            keys_only: request.keys_only,
            count_only: request.count_only,
            min_mod_revision: request.min_mod_revision.0,
            max_mod_revision: request.max_mod_revision.0,
            min_create_revision: request.min_create_revision.0,
            max_create_revision: request.max_create_revision.0,
        }
    }
}

impl From<RangeResponse> for pb::RangeResponse {
    fn from(response: RangeResponse) -> Self {
        let kvs = response.kvs.into_iter().map(Into::into).collect();
        Self { header: header(response.revision), kvs, more: response.more, count: response.count }
    }
}

impl From<pb::RangeResponse> for RangeResponse {
    fn from(response: pb::RangeResponse) -> Self {
        let kvs = response.kvs.into_iter().map(Into::into).collect();
        Self { revision: revision(response.header), kvs, more: response.more, count: response.count }
    }
}

impl From<pb::PutRequest> for PutRequest {
    fn from(request: pb::PutRequest) -> Self {
        Self {
            key: request.key,
            value: request.value,
            lease: LeaseId(request.lease),
            prev_kv: request.prev_kv,
            ignore_value: request.ignore_value,
            ignore_lease: request.ignore_lease,
        }
    }
}

impl From<PutRequest> for pb::PutRequest {
    fn from(request: PutRequest) -> Self {
        Self {
            key: request.key,
            value: request.value,
            lease: request.lease.0,
            prev_kv: request.prev_kv,
            ignore_value: request.ignore_value,
            ignore_lease: request.ignore_lease,
        }
    }
}

impl From<PutResponse> for pb::PutResponse {
    fn from(response: PutResponse) -> Self {
        Self { header: header(response.revision), prev_kv: response.prev_kv.map(Into::into) }
    }
}

impl From<pb::PutResponse> for PutResponse {
    fn from(response: pb::PutResponse) -> Self {
        Self { revision: revision(response.header), prev_kv: response.prev_kv.map(Into::into) }
    }
}

impl From<pb::DeleteRangeRequest> for DeleteRangeRequest {
    fn from(request: pb::DeleteRangeRequest) -> Self {
        Self { key: request.key, range_end: request.range_end, prev_kv: request.prev_kv }
    }
}

impl From<DeleteRangeRequest> for pb::DeleteRangeRequest {
    fn from(request: DeleteRangeRequest) -> Self {
        Self { key: request.key, range_end: request.range_end, prev_kv: request.prev_kv }
    }
}

impl From<DeleteRangeResponse> for pb::DeleteRangeResponse {
    fn from(response: DeleteRangeResponse) -> Self {
        let prev_kvs = response.prev_kvs.into_iter().map(Into::into).collect();
        Self { header: header(response.revision), deleted: response.deleted, prev_kvs }
    }
}

impl From<pb::DeleteRangeResponse> for DeleteRangeResponse {
    fn from(response: pb::DeleteRangeResponse) -> Self {
        let prev_kvs = response.prev_kvs.into_iter().map(Into::into).collect();
        Self { revision: revision(response.header), deleted: response.deleted, prev_kvs }
    }
}

impl TryFrom<pb::Compare> for Compare {
    type Error = Malformed;

    fn try_from(compare: pb::Compare) -> Result<Self, Malformed> {
        use pb::compare as wire;
        let op = match wire::CompareResult::try_from(compare.result).map_err(|_| Malformed::Compare)? {
            wire::CompareResult::Equal => CompareOp::Equal,
            wire::CompareResult::Greater => CompareOp::Greater,
            wire::CompareResult::Less => CompareOp::Less,
            wire::CompareResult::NotEqual => CompareOp::NotEqual,
        };
        // As in etcd, what is given for another target than the one named counts as not given: as 0, or empty.
        let union = compare.target_union;
        let target = match (wire::CompareTarget::try_from(compare.target).map_err(|_| Malformed::Compare)?, union) {
            (wire::CompareTarget::Version, Some(wire::TargetUnion::Version(version))) => {
                CompareTarget::Version(version)
            }
            (wire::CompareTarget::Version, _) => CompareTarget::Version(0),
            (wire::CompareTarget::Create, Some(wire::TargetUnion::CreateRevision(revision))) => {
                CompareTarget::CreateRevision(Revision(revision))
            }
            (wire::CompareTarget::Create, _) => CompareTarget::CreateRevision(Revision(0)),
            (wire::CompareTarget::Mod, Some(wire::TargetUnion::ModRevision(revision))) => {
                CompareTarget::ModRevision(Revision(revision))
            }
            (wire::CompareTarget::Mod, _) => CompareTarget::ModRevision(Revision(0)),
            (wire::CompareTarget::Value, Some(wire::TargetUnion::Value(value))) => CompareTarget::Value(value),
            (wire::CompareTarget::Value, _) => CompareTarget::Value(bytes::Bytes::new()),
            (wire::CompareTarget::Lease, Some(wire::TargetUnion::Lease(lease))) => CompareTarget::Lease(LeaseId(lease)),
            (wire::CompareTarget::Lease, _) => CompareTarget::Lease(LeaseId::NONE),
        };
        Ok(Self { key: compare.key, range_end: compare.range_end, op, target })
    }
}

impl From<Compare> for pb::Compare {
    fn from(compare: Compare) -> Self {
        use pb::compare as wire;
        let result = match compare.op {
            CompareOp::Equal => wire::CompareResult::Equal,
            CompareOp::Greater => wire::CompareResult::Greater,
            CompareOp::Less => wire::CompareResult::Less,
            CompareOp::NotEqual => wire::CompareResult::NotEqual,
        };
        let (target, union) = match compare.target {
            CompareTarget::Version(version) => (wire::CompareTarget::Version, wire::TargetUnion::Version(version)),
            CompareTarget::CreateRevision(revision) => {
                (wire::CompareTarget::Create, wire::TargetUnion::CreateRevision(revision.0))
            }
            CompareTarget::ModRevision(revision) => {
                (wire::CompareTarget::Mod, wire::TargetUnion::ModRevision(revision.0))
            }
            CompareTarget::Value(value) => (wire::CompareTarget::Value, wire::TargetUnion::Value(value)),
            CompareTarget::Lease(lease) => (wire::CompareTarget::Lease, wire::TargetUnion::Lease(lease.0)),
        };
        Self {
            result: result.into(),
            target: target.into(),
            key: compare.key,
            range_end: compare.range_end,
            target_union: Some(union),
        }
    }
}

impl TryFrom<pb::RequestOp> for Op {
    type Error = Malformed;

    fn try_from(op: pb::RequestOp) -> Result<Self, Malformed> {
        use pb::request_op::Request;
        Ok(match op.request.ok_or(Malformed::Op)? {
            Request::RequestRange(request) => Op::Range(request.try_into()?),
            Request::RequestPut(request) => Op::Put(request.into()),
            Request::RequestDeleteRange(request) => Op::DeleteRange(request.into()),
            Request::RequestTxn(request) => Op::Txn(request.try_into()?),
        })
    }
}

impl From<Op> for pb::RequestOp {
    fn from(op: Op) -> Self {
        use pb::request_op::Request;
        let request = match op {
            Op::Range(request) => Request::RequestRange(request.into()),
            Op::Put(request) => Request::RequestPut(request.into()),
            Op::DeleteRange(request) => Request::RequestDeleteRange(request.into()),
            Op::Txn(request) => Request::RequestTxn(request.into()),
        };
        Self { request: Some(request) }
    }
}

impl TryFrom<pb::TxnRequest> for TxnRequest {
    type Error = Malformed;

    /// The recursion ends: the decoder refuses messages nested deeper than 100.
    fn try_from(request: pb::TxnRequest) -> Result<Self, Malformed> {
        let ops = |ops: Vec<pb::RequestOp>| ops.into_iter().map(TryInto::try_into).collect::<Result<_, _>>();
        Ok(Self {
            compare: request.compare.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            success: ops(request.success)?,
            failure: ops(request.failure)?,
        })
    }
}

impl From<TxnRequest> for pb::TxnRequest {
    fn from(request: TxnRequest) -> Self {
        Self {
            compare: request.compare.into_iter().map(Into::into).collect(),
            success: request.success.into_iter().map(Into::into).collect(),
            failure: request.failure.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<OpResponse> for pb::ResponseOp {
    fn from(response: OpResponse) -> Self {
        use pb::response_op::Response;
        let response = match response {
            OpResponse::Range(response) => Response::ResponseRange(response.into()),
            OpResponse::Put(response) => Response::ResponsePut(response.into()),
            OpResponse::DeleteRange(response) => Response::ResponseDeleteRange(response.into()),
            OpResponse::Txn(response) => Response::ResponseTxn(response.into()),
        };
        Self { response: Some(response) }
    }
}

impl TryFrom<pb::ResponseOp> for OpResponse {
    type Error = Malformed;

    fn try_from(response: pb::ResponseOp) -> Result<Self, Malformed> {
        use pb::response_op::Response;
        Ok(match response.response.ok_or(Malformed::Op)? {
            Response::ResponseRange(response) => OpResponse::Range(response.into()),
            Response::ResponsePut(response) => OpResponse::Put(response.into()),
            Response::ResponseDeleteRange(response) => OpResponse::DeleteRange(response.into()),
            Response::ResponseTxn(response) => OpResponse::Txn(response.try_into()?),
        })
    }
}

impl From<TxnResponse> for pb::TxnResponse {
    fn from(response: TxnResponse) -> Self {
        let responses = response.responses.into_iter().map(Into::into).collect();
        Self { header: header(response.revision), succeeded: response.succeeded, responses }
    }
}

impl TryFrom<pb::TxnResponse> for TxnResponse {
    type Error = Malformed;

    fn try_from(response: pb::TxnResponse) -> Result<Self, Malformed> {
        let responses = response.responses.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(Self { revision: revision(response.header), succeeded: response.succeeded, responses })
    }
}

impl From<pb::CompactionRequest> for CompactRequest {
    fn from(request: pb::CompactionRequest) -> Self {
        Self { revision: Revision(request.revision), physical: request.physical }
    }
}

impl From<CompactRequest> for pb::CompactionRequest {
    fn from(request: CompactRequest) -> Self {
        Self { revision: request.revision.0, physical: request.physical }
    }
}

impl From<pb::WatchCreateRequest> for WatchRequest {
    fn from(request: pb::WatchCreateRequest) -> Self {
        use pb::watch_create_request::FilterType;
        let has = |filter: FilterType| request.filters.contains(&i32::from(filter));
        Self {
            no_put: has(FilterType::Noput),
            no_delete: has(FilterType::Nodelete),
            key: request.key,
            range_end: request.range_end,
            start_revision: Revision(request.start_revision),
            progress_notify: request.progress_notify,
            prev_kv: request.prev_kv,
        }
    }
}

impl From<WatchRequest> for pb::WatchCreateRequest {
    fn from(request: WatchRequest) -> Self {
        use pb::watch_create_request::FilterType;
        let filters = [(request.no_put, FilterType::Noput), (request.no_delete, FilterType::Nodelete)];
        Self {
            key: request.key,
            range_end: request.range_end,
            start_revision: request.start_revision.0,
            progress_notify: request.progress_notify,
            filters: filters.into_iter().filter(|(on, _)| *on).map(|(_, filter)| filter.into()).collect(),
            prev_kv: request.prev_kv,
            watch_id: 0,
            fragment: false,
        }
    }
}
