package ledger

// Class is a class of answers, as a protocol tells them apart by their status: "2xx", "error
// 1045". A protocol defines its classes with DefineClass; 0 is none.
type Class uint8

// MaxClasses bounds the classes of all protocols, the 0 included.
const MaxClasses = 64

// ByClass counts for each Class.
type ByClass [MaxClasses]uint64

var classes = terms{most: MaxClasses, list: make([]term, 1)}

// DefineClass adds a class of a protocol. name is its key in reports; meaning explains it, and may
// be empty. It is called while packages are initialised, and panics if the name is taken or
// there are MaxClasses.
func DefineClass(name, meaning string) Class {
	return Class(classes.define(term{name: name, meaning: meaning}))
}

// String returns the class's name in summaries and reports.
func (c Class) String() string { return classes.list[c].name }

// Meaning explains the class in a few plain words; it may be empty.
func (c Class) Meaning() string { return classes.list[c].meaning }

// Classes returns every class, in the order in which reports show them.
func Classes() []Class {
	all := make([]Class, 0, len(classes.list)-1)
	for i := range classes.list[1:] {
		all = append(all, Class(i+1))
	}
	return all
}
