package content

// maxNodes bounds the paths that are remembered between answers.
const maxNodes = 1 << 13

// node is a path. It knows the paths below it, so that those of a text of JSON need not be built
// for each of its values.
type node struct {
	path string
	key  string // that its parent has it by; empty: by none
	// first is the child that came first in the last object, and next the one that came after this
	// one. Most often they do so again.
	first, next *node
	children    map[string]*node // by key
	elements    *node            // the path with [] behind it
	answer      uint64           // the last answer that has a field at this path
	field       int              // its index
	keeps       bool             // digests have the values
}

// node returns the node of a path.
func (b *Builder) node(path []byte) *node {
	if n, ok := b.paths[string(path)]; ok {
		return n
	}
	name := b.with.Path(path) // printable, and not too long
	n := b.paths[name]
	if n == nil {
		n = &node{path: name, keeps: b.with.Wanted.Keeps(name)}
		b.paths[name] = n
	}
	return n
}

// child returns the node of a key in an object at the path n, that comes after another key's; nil:
// it is the first.
func (b *Builder) child(n, after *node, key []byte) *node {
	guess := &n.first
	if after != nil {
		guess = &after.next
	}
	if c := *guess; c != nil && c.key == string(key) && n.children[c.key] == c {
		return c
	}
	c, ok := n.children[string(key)]
	if !ok {
		b.path = AppendKey(append(b.path[:0], n.path...), key)
		c = b.node(b.path)
		if own := len(n.path) + 1; len(c.path) > own && c.path[own:] == string(key) {
			if n.children == nil {
				n.children = make(map[string]*node)
			}
			c.key = c.path[own:]
			n.children[c.key] = c
		}
	}
	*guess = c
	return c
}

// list returns the node of the elements of a list at the path n.
func (b *Builder) list(n *node) *node {
	if n.elements == nil {
		b.path = append(append(b.path[:0], n.path...), "[]"...)
		n.elements = b.node(b.path)
	}
	return n.elements
}
