//! How each member of a store elsewhere is.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{
    Remote,
    endpoints::{Endpoints, Way},
    maintenance, revision,
};
use crate::{
    Result, Revision,
    proto::etcdserverpb::{self as pb, cluster_client::ClusterClient},
};

/// How long one member may take to answer.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(3);

/// Members asked at most; etcd advises against more than 7.
const MEMBERS_MAX: usize = 64;

/// One member of a store, as it tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it was asked.
    pub endpoint: String,
    /// What it said, or why nothing.
    pub answer: std::result::Result<MemberStatus, String>,
}

/// What a member says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id; the same at all its endpoints.
    pub id: u64,
    /// Its name, as far as the list of members has it.
    pub name: String,
    /// The version of its interface.
    pub version: String,
    /// Whether it leads.
    pub leads: bool,
    /// Whether it does not vote.
    pub learner: bool,
    /// How far it is itself.
    pub revision: Revision,
    /// Bytes of its files.
    pub db_size: u64,
    /// Bytes in use there.
    pub db_size_in_use: u64,
    /// Its quota in bytes; 0: it does not tell.
    pub quota: u64,
    /// Its alarms and other troubles, in its words.
    pub alarms: Vec<String>,
}

impl Remote {
    /// Asks the endpoints, and the members that they know of, each for itself. The order is that of
    /// the endpoints, then of the ids.
    pub async fn members(&self) -> Vec<Member> {
        let mut list: Vec<pb::Member> = Vec::new();
        for (_, way) in self.0.each() {
            let request = list_of(way);
            if let Ok(Ok(answer)) = timeout(MEMBER_TIMEOUT, request).await {
                list = answer;
                break;
            }
        }
        let mut answers = ask(self.0.each().collect()).await;
        let known: BTreeSet<u64> =
            answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).map(|m| m.id).collect();
        list.sort_by_key(|member| member.id);
        let others = list.iter().filter(|member| !known.contains(&member.id)).take(MEMBERS_MAX);
        let mut ways = Vec::new();
        for member in others {
            // One that is among the endpoints was asked there, and did not answer.
            let asked = |url: &&String| answers.iter().any(|(at, _)| at == *url);
            let Some(url) = member.client_ur_ls.first().filter(|_| !member.client_ur_ls.iter().any(|url| asked(&url)))
            else {
                continue;
            };
            match Endpoints::new([url], self.0.options()) {
                Ok(endpoints) => ways.extend(endpoints.each()),
                Err(error) => answers.push((url.clone(), Err(error.to_string()))),
            }
        }
        answers.extend(ask(ways).await);
        let named = answers.into_iter().map(|(endpoint, answer)| {
            let answer = answer.map(|status| {
                let name = list.iter().find(|member| member.id == status.id).map(|member| member.name.clone());
                MemberStatus { name: name.unwrap_or_default(), ..status }
            });
            Member { endpoint, answer }
        });
        named.collect()
    }

    /// The oldest revision that can be read; 1 where nothing was compacted.
    ///
    /// # Errors
    /// `Unavailable`, and those of who may ask.
    pub async fn oldest(&self) -> Result<Revision> {
        super::watch::oldest(self).await
    }
}

async fn list_of(way: Way) -> std::result::Result<Vec<pb::Member>, tonic::Status> {
    let answer = ClusterClient::new(way).member_list(pb::MemberListRequest { linearizable: false }).await?;
    Ok(answer.into_inner().members)
}

async fn ask(ways: Vec<(String, Way)>) -> Vec<(String, std::result::Result<MemberStatus, String>)> {
    join_all(ways.into_iter().map(|(endpoint, way)| async move {
        let answer = match timeout(MEMBER_TIMEOUT, maintenance(way).status(pb::StatusRequest {})).await {
            Ok(Ok(answer)) => Ok(read(answer.into_inner())),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err(format!("no answer in {} s", MEMBER_TIMEOUT.as_secs())),
        };
        (endpoint, answer)
    }))
    .await
}

fn read(status: pb::StatusResponse) -> MemberStatus {
    let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let id = status.header.map_or(0, |header| header.member_id);
    MemberStatus {
        id,
        name: String::new(),
        leads: id != 0 && status.leader == id,
        learner: status.is_learner,
        revision: revision(status.header),
        db_size: size(status.db_size),
        db_size_in_use: size(status.db_size_in_use),
        quota: size(status.db_size_quota),
        version: status.version,
        alarms: status.errors,
    }
}
