//! Tenants beside each other.

use crate::harness::{config, script, spawn, wait};
use agentruntime_host_api::{ErrorCode, Guest, Json, Outcome, TenantId};
use agentruntime_sandbox::{Sandbox, SandboxConfig, TenantBudget};
use futures_util::{FutureExt, future::join_all};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

fn sandbox(change: impl FnOnce(&mut SandboxConfig)) -> Sandbox {
    let mut config = SandboxConfig { max_instances: 64, ..config() };
    change(&mut config);
    Sandbox::new(config).unwrap()
}

#[test]
fn endless_loops_of_one_tenant_do_not_stop_another() {
    let sandbox = sandbox(|_| ());
    let noise = (0..16).map(|_| {
        let wall = Duration::from_secs(60);
        let (sandbox, case) = (sandbox.clone(), script("while true do end").tenant("noisy").limits(|l| l.time = wall));
        spawn(async move { case.drive(&sandbox, |_| Ok(Json::null())).await })
    });
    let noise: Vec<_> = noise.collect();
    for _ in 0..20 {
        let sandbox = sandbox.clone();
        let quiet = script("return {x = 1}").tenant("quiet").limits(|l| l.time = Duration::from_secs(60));
        wait(async { tokio::spawn(async move { quiet.drive(&sandbox, |_| Ok(Json::null())).await }).await })
            .unwrap()
            .unwrap();
    }
    for loops in noise {
        assert!(!loops.is_finished(), "the quiet steps had to wait for the loops to end");
        loops.abort();
    }
}

#[test]
fn a_full_house_of_steps_that_raise_errors_fits_the_pool() {
    let sandbox = sandbox(|config| config.max_instances = 4);
    let source = "for i = 1, 100 do pcall(error, {i}) end return {ok = not pcall(error, 'x')}";
    let steps: Vec<_> = (0..100)
        .map(|_| {
            let (sandbox, case) = (sandbox.clone(), script(source));
            spawn(async move { case.drive(&sandbox, |_| Ok(Json::null())).await.unwrap().json.to_string() })
        })
        .collect();
    for text in wait(join_all(steps)) {
        assert_eq!(text.unwrap(), r#"{"ok":true}"#);
    }
}

#[test]
fn processors_are_shared_by_tenant_and_not_by_step() {
    let sandbox = sandbox(|config| config.cpus = 1);
    let counting = |tenant: &str, ticks: &Arc<AtomicU32>| {
        let source = "local n = 0 while true do n = n + 1 if n % 20000 == 0 then host.call('tick') end end";
        let time = Duration::from_millis(600);
        let (sandbox, case, ticks) = (
            sandbox.clone(),
            script(source).tenant(tenant).limits(|l| (l.time, l.requests) = (time, u32::MAX)),
            ticks.clone(),
        );
        spawn(async move {
            let ended = case.drive(&sandbox, |_| {
                ticks.fetch_add(1, SeqCst);
                Ok(Json::null())
            });
            assert_eq!(ended.await.unwrap_err().code, ErrorCode::StepTimeout);
        })
    };
    let (one, many) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let others: Vec<_> = (0..6).map(|_| counting("many", &many)).collect();
    wait(counting("one", &one)).unwrap();
    let (one, many) = (f64::from(one.load(SeqCst)), f64::from(many.load(SeqCst)));
    others.iter().for_each(JoinHandle::abort);
    let share = one / (one + many);
    assert!((0.3..0.7).contains(&share), "one step got {share} beside six of another tenant");
}

#[test]
fn steps_that_wait_for_each_other_do_not_run_out_of_time() {
    let sandbox = sandbox(|config| (config.cpus, config.turn) = (1, Duration::from_micros(200)));
    // Together several times what each may take, and each far below it, but more than its turns in a row.
    let time = Duration::from_millis(400);
    let steps: Vec<_> = (0..60)
        .map(|_| {
            let case = script("local n = 0 for i = 1, 2000000 do n = n + i % 7 end return {n = n}");
            let (sandbox, case) = (sandbox.clone(), case.limits(|limits| limits.time = time));
            spawn(async move { case.drive(&sandbox, |_| Ok(Json::null())).await })
        })
        .collect();
    let begun = Instant::now();
    for ended in wait(join_all(steps)) {
        ended.unwrap().unwrap();
    }
    assert!(begun.elapsed() > time, "the test is too small to show anything: {:?}", begun.elapsed());
}

#[test]
fn a_loop_ends_when_it_has_had_its_time_however_long_it_waited_for_others() {
    let sandbox = sandbox(|config| config.cpus = 1);
    let looping = |_| {
        let (sandbox, case) = (sandbox.clone(), script("while true do end"));
        let case = case.limits(|limits| limits.time = Duration::from_millis(100));
        spawn(async move { case.drive(&sandbox, |_| Ok(Json::null())).await })
    };
    let steps: Vec<_> = (0..6).map(looping).collect();
    for ended in wait(join_all(steps)) {
        assert_eq!(ended.unwrap().unwrap_err().code, ErrorCode::StepTimeout);
    }
}

#[test]
fn a_tenant_over_its_budget_waits_and_others_do_not() {
    let sandbox = sandbox(|config| config.tenant = TenantBudget { instances: 2, ..TenantBudget::default() });
    wait(async {
        let park = |tenant: &str| sandbox.start(script("host.call('a') return {}").tenant(tenant).invocation);
        let first = park("a").await;
        let second = park("a").await;
        let mut third = park("a");
        assert!((&mut third).now_or_never().is_none(), "the third waits");
        assert!(matches!(park("b").await, Outcome::Requests { .. }), "the other tenant does not");
        let mut fourth = park("a");
        assert!((&mut fourth).now_or_never().is_none());
        drop(first);
        let third = third.await;
        assert!(matches!(third, Outcome::Requests { .. }));
        assert!((&mut fourth).now_or_never().is_none());
        drop((second, third));
        assert!(matches!(fourth.await, Outcome::Requests { .. }));
    });
}

#[test]
fn a_program_is_checked_on_its_tenants_budget() {
    let sandbox = sandbox(|config| config.tenant = TenantBudget { instances: 1, ..TenantBudget::default() });
    wait(async {
        let check = |tenant: &str| sandbox.check(TenantId::new(tenant), script("return {}").invocation.program);
        let parked = sandbox.start(script("host.call('a') return {}").tenant("a").invocation).await;
        let mut own = check("a");
        assert!((&mut own).now_or_never().is_none(), "it waits behind the tenant's own step");
        assert_eq!(check("b").await, Ok(()));
        drop(parked);
        assert_eq!(own.await, Ok(()));
    });
}

#[test]
fn memory_is_a_budget_too() {
    let memory_bytes = 100 << 20;
    let sandbox = sandbox(|config| config.tenant = TenantBudget { memory_bytes, ..TenantBudget::default() });
    wait(async {
        let park = |mib: usize| {
            sandbox
                .start(script("host.call('a') return {}").limits(|limits| limits.memory_bytes = mib << 20).invocation)
        };
        let first = park(60).await;
        let mut second = park(60);
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert!(matches!(second.await, Outcome::Requests { .. }));
        assert!(matches!(park(200).await, Outcome::Requests { .. }), "what is larger than the budget gets all of it");
    });
}

#[test]
fn more_steps_than_instances_all_finish() {
    let sandbox = sandbox(|config| config.max_instances = 4);
    let steps = (0..200).map(|i| {
        let (sandbox, case) =
            (sandbox.clone(), script("return {x = input}").tenant(&format!("t{}", i % 5)).input(&i.to_string()));
        spawn(async move { case.drive(&sandbox, |_| Ok(Json::null())).await.unwrap().json.to_string() })
    });
    let steps: Vec<_> = steps.collect();
    for (i, text) in wait(join_all(steps)).into_iter().enumerate() {
        assert_eq!(text.unwrap(), format!(r#"{{"x":{i}}}"#));
    }
}

#[test]
fn a_step_that_is_dropped_gives_everything_back() {
    let sandbox = sandbox(|config| (config.max_instances, config.cpus) = (2, 1));
    wait(async {
        for _ in 0..20 {
            let looping = tokio::spawn({
                let (sandbox, case) = (sandbox.clone(), script("while true do end"));
                async move { case.drive(&sandbox, |_| Ok(Json::null())).await }
            });
            tokio::task::yield_now().await;
            looping.abort();
            assert!(looping.await.is_err());
        }
        assert!(script("return {}").drive(&sandbox, |_| Ok(Json::null())).await.is_ok());
    });
}
