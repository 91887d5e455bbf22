// Package archtest enforces the rules of the source tree. It has tests only.
//
//   - arch_test.go: which package may import which, which packages are pure, and which one makes
//     system calls.
//   - size_test.go: how long a line, a file and a function may be.
//   - comment_test.go: what must have a doc comment: packages, groups of packages, and exported
//     identifiers.
//   - tree_test.go: how the tests read the tree, and the directories that do not yet keep the rules
//     of size_test.go and comment_test.go.
//
// A message names the place, what is wrong there, and what is wanted. The rules have no exceptions
// in comments: a file that cannot keep one needs a change of the rule.
package archtest
