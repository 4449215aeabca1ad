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
        let is_stuck = waits_for.iter().map(|count| *count > 0).collect();
        Self { sorted, circles: circles(depends_on, is_stuck), ancestors }
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
fn circles(depends_on: &[Vec<usize>], mut is_stuck: Vec<bool>) -> Vec<Vec<usize>> {
    let mut circles = Vec::new();
    for start in 0..depends_on.len() {
        while is_stuck[start] {
            let walk = walk(depends_on, &is_stuck, start);
            match walk.iter().position(|node| Some(node) == walk.last()) {
                Some(first) if first + 1 < walk.len() => {
                    for node in &walk[first..] {
                        is_stuck[*node] = false;
                    }
                    circles.push(walk[first..].to_vec());
                }
                // The last node only waited for a circle that was set aside; those before it may yet be in another.
                _ => walk.last().into_iter().for_each(|node| is_stuck[*node] = false),
            }
        }
    }
    circles
}

/// From a node along dependencies that are stuck, until a node comes again or there is none.
fn walk(depends_on: &[Vec<usize>], is_stuck: &[bool], start: usize) -> Vec<usize> {
    let mut walk = vec![start];
    let mut is_visited = vec![false; depends_on.len()];
    let mut node = start;
    while !is_visited[node] {
        is_visited[node] = true;
        match depends_on[node].iter().find(|dependency| is_stuck[**dependency]) {
            Some(next) => {
                node = *next;
                walk.push(node);
            }
            None => break,
        }
    }
    walk
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
        let behind_another = Order::of(&[vec![0], vec![0], vec![1, 3], vec![2]]);
        assert_eq!(behind_another.circles, [vec![0, 0], vec![2, 3, 2]]);
    }
}
