//! Two cores under random operations, joined by a path that delays, splits and holds back bytes:
//! what must hold whatever the users do and however the bytes travel.
#![allow(clippy::unwrap_used)]

#[path = "properties/known.rs"]
mod known;
#[path = "properties/scenario.rs"]
mod scenario;
#[path = "support/sim.rs"]
mod sim;
#[path = "properties/trail.rs"]
mod trail;
#[path = "properties/world.rs"]
mod world;

use std::time::Duration;

use quickcheck::QuickCheck;
use scenario::Scenario;
use sim::count;
use trail::check_wire;
use world::World;

#[test]
fn whatever_users_do_streams_carry_their_bytes_and_end() {
    let cases = count(4_000);
    QuickCheck::new().tests(cases).max_tests(cases).quickcheck(holds as fn(Scenario) -> bool);
}

/// One random run, and every property of it.
fn holds(scenario: Scenario) -> bool {
    let mut world = World::new(&scenario);
    for step in &scenario.steps {
        world.act(step);
        world.run(Duration::ZERO);
    }
    world.settle_down();
    world.check_streams();
    world.let_go();
    world.check_empty();
    world.close();
    check_wire(&world.sim);
    true
}
