//! The control plane's own ids.

use agentruntime_host_api::uuid_id;

uuid_id! {
    /// A person with an account.
    UserId
}
uuid_id! {
    /// A personal access token.
    PatId
}
uuid_id! {
    /// A session of a browser, as lists and revocations name it. The cookie holds something else.
    SessionId
}
uuid_id! {
    /// An invitation to a workspace.
    InviteId
}
uuid_id! {
    /// One request, in answers and logs.
    RequestId
}
