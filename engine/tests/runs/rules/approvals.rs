//! People are asked before a request of a step goes out.

use super::{graph, steps};
use crate::world::{World, input_of, start_with};
use agentruntime_engine::{
    graph::Graph,
    run::{Executing, Input, event::StepPath},
};
use insta::assert_snapshot;
use serde_json::json;
use std::{sync::Arc, time::Duration};

fn one() -> super::Case {
    steps(json!([{ "id": "a", "script": "hold" }]))
}

#[test]
fn a_request_waits_for_a_yes_and_goes_out_after_it() {
    assert_snapshot!(one().plays("asks a people\n approve a {\"note\":\"fine\"}\n gets a 0 {}\n ends a {}"), @r#"
    started a
    > asks a people
    a asks 0: mcp.call
    asked a: tool_approval {"n":0}, about 0
    > approve a {"note":"fine"}
    answered a: yes {"note":"fine"}
    > gets a 0 {}
    a got 0: {}
    > ends a {}
    completed a: {}
    run completed: {"a":{}}
    "#);
}

#[test]
fn what_needs_nobody_goes_out_meanwhile() {
    assert_snapshot!(
        one().plays("asks a nobody people people\n gets a 0 {}\n approve a\n reject a\n gets a 1 {}\n gets a 2 in APPROVAL_REJECTED\n ends a {}"),
        @r#"
    started a
    > asks a nobody people people
    a asks 0: mcp.call
    a asks 1: mcp.call
    a asks 2: mcp.call
    asked a: tool_approval {"n":1}, about 1
    asked a: tool_approval {"n":2}, about 2
    > gets a 0 {}
    a got 0: {}
    > approve a
    answered a: yes {}
    > reject a
    answered a: no {}
    > gets a 1 {}
    a got 1: {}
    > gets a 2 in APPROVAL_REJECTED
    a got 2: APPROVAL_REJECTED
    > ends a {}
    completed a: {}
    run completed: {"a":{}}
    "#,
    );
}

#[test]
fn an_answer_that_comes_while_something_else_is_under_way_begins_nothing_twice() {
    assert_snapshot!(one().plays("asks a people nobody\n approve a\n gets a 1 {}\n gets a 0 {}\n ends a {}"), @r#"
    started a
    > asks a people nobody
    a asks 0: mcp.call
    a asks 1: mcp.call
    asked a: tool_approval {"n":0}, about 0
    > approve a
    answered a: yes {}
    > gets a 1 {}
    a got 1: {}
    > gets a 0 {}
    a got 0: {}
    > ends a {}
    completed a: {}
    run completed: {"a":{}}
    "#);
}

#[test]
fn nothing_is_asked_or_done_again_after_a_crash() {
    assert_snapshot!(one().plays("asks a people\n crash\n approve a\n crash\n gets a 0 {}\n crash\n ends a {}"), @r#"
    started a
    > asks a people
    a asks 0: mcp.call
    asked a: tool_approval {"n":0}, about 0
    > crash
    > approve a
    answered a: yes {}
    > crash
    > gets a 0 {}
    a got 0: {}
    > crash
    > ends a {}
    completed a: {}
    run completed: {"a":{}}
    "#);
}

#[test]
fn who_waits_for_a_person_is_told_nothing_else() {
    let plan = json!({ "steps": [{ "id": "a", "type": "lua_script", "script": "hold" }] });
    let mut world = World::start(Arc::new(Graph::parse(&plan).unwrap()), start_with(json!({})));
    let executing = Executing { path: StepPath::top(&"a".into()), attempt: 1 };
    let more = world.request(&executing, &[true, false]);
    let asked = world.request(&executing, &[true]);
    assert_eq!(world.give(asked.clone()).len(), 2);
    let reply = |number: u32| {
        let (executing, reply) = (executing.clone(), Ok(json!({}).into()));
        Input::Replied { executing, number, reply, duration: Duration::ZERO }
    };
    let ended = input_of(executing.clone(), Ok(json!({}).into()));
    for late in [asked, more.clone(), reply(0), reply(1), ended] {
        assert!(world.give_stale(late.clone()).is_empty(), "{late:?}");
    }
    // The same where something else is under way: what has not been approved has no reply.
    let mut world = World::start(world.graph, start_with(json!({})));
    assert_eq!(world.give(more).len(), 3);
    assert!(world.give_stale(reply(0)).is_empty());
    assert_eq!(world.give(reply(1)).len(), 1);
}

#[test]
fn a_stop_closes_the_question_and_so_does_a_graceful_one() {
    assert_snapshot!(one().plays("asks a people\n stop"), @r#"
    started a
    > asks a people
    a asks 0: mcp.call
    asked a: tool_approval {"n":0}, about 0
    > stop
    cancelled a
    run stopped: RUN_STOPPED
      ~ question of a cancelled
    "#);
    assert_snapshot!(one().plays("asks a people\n stop gracefully"), @r#"
    started a
    > asks a people
    a asks 0: mcp.call
    asked a: tool_approval {"n":0}, about 0
    > stop gracefully
    running → draining (stop)
    cancelled a
    run stopped: RUN_STOPPED
      ~ question of a cancelled
    "#);
}

#[test]
fn an_attempt_that_ends_for_another_reason_closes_its_question_and_the_next_asks_anew() {
    let case = steps(json!([{ "id": "a", "script": "hold", "retry_count": 1 }]));
    assert_snapshot!(
        case.plays("asks a people nobody\n ends a in STEP_TIMEOUT\n wait 60\n asks a people\n reject a\n gets a 0 in APPROVAL_REJECTED\n ends a {}"),
        @r#"
    started a
    > asks a people nobody
    a asks 0: mcp.call
    a asks 1: mcp.call
    asked a: tool_approval {"n":0}, about 0
    > ends a in STEP_TIMEOUT
    retrying a: STEP_TIMEOUT
      ~ question of a cancelled
    > wait 60
    started a #2
    > asks a people
    a #2 asks 0: mcp.call
    asked a: tool_approval {"n":0}, about 0
    > reject a
    answered a: no {}
    > gets a 0 in APPROVAL_REJECTED
    a #2 got 0: APPROVAL_REJECTED
    > ends a {}
    completed a #2: {}
    run completed: {"a":{}}
    "#,
    );
}

#[test]
fn an_item_that_fails_closes_the_questions_of_the_others() {
    let body = json!([{ "id": "b", "script": "hold" }]);
    let each = json!({ "id": "each", "type": "for_each", "for_each_items": [1, 2], "for_each_body_steps": body });
    let case = graph(json!({ "steps": [each] }));
    assert_snapshot!(case.plays("asks each[0].b people\n ends each[1].b in LUA_ERROR"), @r#"
    started each
    started each[0].b
    started each[1].b
    > asks each[0].b people
    each[0].b asks 0: mcp.call
    asked each[0].b: tool_approval {"n":0}, about 0
    > ends each[1].b in LUA_ERROR
    failed each[1].b: LUA_ERROR
    cancelled each[0].b
    failed each: LUA_ERROR
    run failed in each: LUA_ERROR
      ~ question of each[0].b cancelled
    "#);
}

#[test]
fn a_paused_run_takes_the_answer_in_and_what_was_under_way_goes_on() {
    assert_snapshot!(one().plays("asks a people\n pause\n approve a\n gets a 0 {}\n ends a {}\n resume"), @r#"
    started a
    > asks a people
    a asks 0: mcp.call
    asked a: tool_approval {"n":0}, about 0
    > pause
    running → paused (pause)
    > approve a
    answered a: yes {}
    > gets a 0 {}
    a got 0: {}
    > ends a {}
    completed a: {}
    > resume
    paused → running (resume)
    run completed: {"a":{}}
    "#);
}
