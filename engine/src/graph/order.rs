//! What comes after what: a stable topological order, circles, and ancestors.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

/// What follows from the dependencies of some nodes, numbered as written.
pub(crate) struct Order {
    /// Every node outside and before circles once, after all it depends on; among equals the order written.
    pub(crate) sorted: Vec<usize>,
    /// Each circle once, as a path along `depends_on` that ends where it starts.
    pub(crate) circles: Vec<Vec<usize>>,
    ancestors: Vec<Option<Bits>>,
}

/// A set of small numbers.
#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn add(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn add_all(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

impl Order {
    /// Each element says what the node of its number depends on.
    pub(crate) fn of(depends_on: &[Vec<usize>]) -> Self {
        let mut dependents = vec![Vec::new(); depends_on.len()];
        let mut waits_for: Vec<usize> = vec![0; depends_on.len()];
        for (node, dependencies) in depends_on.iter().enumerate() {
            for dependency in dependencies.iter().collect::<BTreeSet<_>>() {
                dependents[*dependency].push(node);
                waits_for[node] += 1;
            }
        }
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..depends_on.len()).filter(|node| waits_for[*node] == 0).map(Reverse).collect();
        let mut sorted = Vec::with_capacity(depends_on.len());
        let mut ancestors: Vec<Option<Bits>> = vec![None; depends_on.len()];
        while let Some(Reverse(node)) = ready.pop() {
            sorted.push(node);
            ancestors[node] = Some(ancestors_of(&depends_on[node], &ancestors));
            for dependent in &dependents[node] {
                waits_for[*dependent] -= 1;
                if waits_for[*dependent] == 0 {
                    ready.push(Reverse(*dependent));
                }
            }
        }
        let stuck = (0..depends_on.len()).filter(|node| waits_for[*node] > 0).collect();
        Self { sorted, circles: circles(depends_on, stuck), ancestors }
    }

    /// Whether a node comes, directly or not, before another. Unknown where a circle comes before the other.
    pub(crate) fn is_ancestor(&self, node: usize, of: usize) -> Option<bool> {
        self.ancestors[of].as_ref().map(|ancestors| ancestors.contains(node))
    }
}

fn ancestors_of(dependencies: &[usize], known: &[Option<Bits>]) -> Bits {
    let mut ancestors = Bits(vec![0; known.len().div_ceil(64)]);
    for dependency in dependencies {
        ancestors.add(*dependency);
        if let Some(further) = &known[*dependency] {
            ancestors.add_all(further);
        }
    }
    ancestors
}

/// Follows dependencies among the nodes that wait for ever: each walk ends in a circle, whose nodes are then set aside.
fn circles(depends_on: &[Vec<usize>], mut stuck: BTreeSet<usize>) -> Vec<Vec<usize>> {
    let mut circles = Vec::new();
    while let Some(start) = stuck.first().copied() {
        let mut walk: Vec<usize> = Vec::new();
        let mut position_in_walk = vec![None; depends_on.len()];
        let mut node = start;
        let circle = loop {
            if let Some(position) = position_in_walk[node] {
                let mut circle = walk[position..].to_vec();
                circle.push(node);
                break Some(circle);
            }
            position_in_walk[node] = Some(walk.len());
            walk.push(node);
            match depends_on[node].iter().find(|dependency| stuck.contains(dependency)) {
                Some(next) => node = *next,
                // It only waited for a circle that was set aside.
                None => break None,
            }
        };
        match circle {
            Some(circle) => {
                for node in &circle {
                    stuck.remove(node);
                }
                circles.push(circle);
            }
            None => {
                stuck.remove(&node);
            }
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn among_equals_the_order_is_that_written() {
        let order = Order::of(&[vec![2], vec![], vec![], vec![1, 0, 1]]);
        assert_eq!(order.sorted, [1, 2, 0, 3]);
        assert!(order.circles.is_empty());
        assert_eq!(order.is_ancestor(2, 3), Some(true));
        assert_eq!(order.is_ancestor(3, 2), Some(false));
        assert_eq!(order.is_ancestor(1, 1), Some(false));
    }

    #[test]
    fn each_circle_is_found_once() {
        let order = Order::of(&[vec![1], vec![2], vec![1], vec![3], vec![2], vec![]]);
        assert_eq!(order.sorted, [5]);
        assert_eq!(order.circles, [vec![1, 2, 1], vec![3, 3]]);
        assert_eq!(order.is_ancestor(1, 0), None);
    }
}
