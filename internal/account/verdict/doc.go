// Package verdict judges whether a target answers as production does: same, differs (where, how
// often, an example), or cannot tell (why); and, of two runs, whether the later one is slower.
//
// A Tally belongs to a shard and is given pairs of digests. An Account is what Tallies have
// counted, and a Result what it means. The package is pure, and holds no value of any answer:
// digests have none. docs/verdict.md explains the judgement to users.
//
// Read result.go first, then tally.go.
package verdict
