package hpack

// static is the static table (RFC 7541 appendix A); index 1 is its first entry.
var static = [...]struct{ name, value string }{
	{":authority", ""}, {":method", "GET"}, {":method", "POST"}, {":path", "/"},
	{":path", "/index.html"}, {":scheme", "http"}, {":scheme", "https"}, {":status", "200"},
	{":status", "204"}, {":status", "206"}, {":status", "304"}, {":status", "400"},
	{":status", "404"}, {":status", "500"}, {"accept-charset", ""},
	{"accept-encoding", "gzip, deflate"}, {"accept-language", ""}, {"accept-ranges", ""},
	{"accept", ""}, {"access-control-allow-origin", ""}, {"age", ""}, {"allow", ""},
	{"authorization", ""}, {"cache-control", ""}, {"content-disposition", ""},
	{"content-encoding", ""}, {"content-language", ""}, {"content-length", ""},
	{"content-location", ""}, {"content-range", ""}, {"content-type", ""}, {"cookie", ""},
	{"date", ""}, {"etag", ""}, {"expect", ""}, {"expires", ""}, {"from", ""}, {"host", ""},
	{"if-match", ""}, {"if-modified-since", ""}, {"if-none-match", ""}, {"if-range", ""},
	{"if-unmodified-since", ""}, {"last-modified", ""}, {"link", ""}, {"location", ""},
	{"max-forwards", ""}, {"proxy-authenticate", ""}, {"proxy-authorization", ""}, {"range", ""},
	{"referer", ""}, {"refresh", ""}, {"retry-after", ""}, {"server", ""}, {"set-cookie", ""},
	{"strict-transport-security", ""}, {"transfer-encoding", ""}, {"user-agent", ""},
	{"vary", ""}, {"via", ""}, {"www-authenticate", ""},
}

// staticBytes has the names and values of the static table as bytes, which nobody changes.
var staticBytes = func() (all [len(static)][2][]byte) {
	for i, e := range static {
		all[i] = [2][]byte{[]byte(e.name), []byte(e.value)}
	}
	return all
}()

// staticLen is the number of entries of the static table.
const staticLen = len(static)

// entry is an entry of the dynamic table: where its bytes are.
type entry struct {
	at          uint64 // the position of its name; its value follows
	name, value int    // their lengths
	place       place
	unnamed     bool // its name is not known
}

// size returns what the entry counts for (RFC 7541 §4.1).
func (e *entry) size() int { return e.name + e.value + overhead }

// overhead is what an entry counts for beside its bytes.
const overhead = 32

// table is a dynamic table. Its bytes lie in one buffer, in the order of the entries.
type table struct {
	entries []entry // the oldest first
	first   int     // entries before it were evicted
	bytes   []byte
	spare   []byte // a buffer for compact
	base    uint64 // the position of bytes[0]
	size    int
	most    int // the size that the encoder may use
}

// len returns the number of entries.
func (t *table) len() int { return len(t.entries) - t.first }

// get reads the entry with the index i, where 0 is the newest. It returns false if the entry is not
// known.
func (t *table) get(i int, f *Field) bool {
	e := &t.entries[len(t.entries)-1-i]
	if e.unnamed {
		return false
	}
	b := t.bytes[e.at-t.base:]
	f.Name, f.Value = b[:e.name:e.name], b[e.name:e.name+e.value:e.name+e.value]
	f.place = e.place
	return true
}

// resize sets the size that the encoder may use, and evicts what is too much.
func (t *table) resize(most int) {
	t.most = most
	t.evict(most)
}

// evict removes the oldest entries until the size is at most most.
func (t *table) evict(most int) {
	for t.size > most {
		t.size -= t.entries[t.first].size()
		t.first++
	}
	if t.first == len(t.entries) {
		t.entries, t.first, t.base = t.entries[:0], 0, t.base+uint64(len(t.bytes))
		t.bytes = t.bytes[:0]
	}
}

// add adds an entry, and evicts others for it (RFC 7541 §4.4). The bytes may be those of an entry.
// unnamed reports that the field's name is not known.
func (t *table) add(f *Field, unnamed bool) {
	e := entry{name: len(f.Name), value: len(f.Value), place: f.place, unnamed: unnamed}
	if e.size() > t.most {
		t.evict(0)
		return
	}
	t.compact(e.name + e.value)
	e.at = t.base + uint64(len(t.bytes))
	t.bytes = append(append(t.bytes, f.Name...), f.Value...)
	t.entries = append(t.entries, e)
	t.size += e.size()
	t.evict(t.most)
}

// compact makes room for n more bytes: it moves the live ones to another buffer, since add may be
// given bytes of this one.
func (t *table) compact(n int) {
	if t.first > 32 && 2*t.first > len(t.entries) {
		t.entries, t.first = t.entries[:copy(t.entries, t.entries[t.first:])], 0
	}
	if len(t.bytes)+n <= cap(t.bytes) || t.first == len(t.entries) {
		return
	}
	dead := t.entries[t.first].at - t.base
	live := t.bytes[dead:]
	room := t.spare[:0]
	if cap(room) < 2*(len(live)+n) {
		room = make([]byte, 0, max(4*(len(live)+n), 256))
	}
	t.bytes, t.spare, t.base = append(room, live...), t.bytes, t.base+dead
}
