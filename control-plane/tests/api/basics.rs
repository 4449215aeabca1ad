//! What holds for every request.

use crate::server::{Server, on_both};

#[tokio::test]
async fn a_token_enters_and_nobody_else_does() {
    on_both(|server| async move {
        let list = server.owner().get("/v1/workflows").await.expect(200);
        assert_eq!(list["items"].as_array().unwrap().len(), 0);
        server.anybody().get("/v1/workflows").await.refused(401, "NOT_AUTHENTICATED");
        let wrong = server.anybody().with("authorization", "Bearer pat_wrong");
        wrong.get("/v1/workflows").await.refused(401, "NOT_AUTHENTICATED");
        let twice = server.owner().also("authorization", "Bearer pat_wrong");
        twice.get("/v1/workflows").await.refused(401, "NOT_AUTHENTICATED");
    })
    .await;
}

#[tokio::test]
async fn a_second_start_finds_what_the_first_made() {
    let server = Server::start();
    assert!(server.token.starts_with("pat_"));
    let server = server.restart();
    server.owner().get("/v1/workflows").await.expect(200);
}

#[tokio::test]
async fn what_is_not_there_is_refused_in_the_common_form() {
    let server = Server::start();
    server.anybody().get("/v1/nothing").await.refused(404, "ROUTE_NOT_FOUND");
    server.owner().delete("/v1/workflows").await.refused(405, "METHOD_NOT_ALLOWED");
    server.owner().with("x-tenant-id", "other").get("/v1/workflows").await.refused(404, "PLACE_NOT_FOUND");
    server.owner().with("x-project-id", "other").get("/v1/workflows").await.refused(404, "PLACE_NOT_FOUND");
}
