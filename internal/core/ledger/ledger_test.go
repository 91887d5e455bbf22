package ledger

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestFlow(t *testing.T) {
	var f Flow
	f.Captured = 10
	f.Delivered = 3
	f.Drop(TLS, 2)
	f.Drop(Shutdown, 1)
	f.Drop(TLS, 1)
	if got := f.DroppedAll(); got != 4 {
		t.Errorf("DroppedAll() = %d, wanted 4", got)
	}
	if got := f.InFlight(); got != 3 {
		t.Errorf("InFlight() = %d, wanted 3", got)
	}
	if err := f.Check(); err != nil {
		t.Error(err)
	}
	f.Delivered += 4
	if err := f.Check(); err == nil {
		t.Error("11 accounted for of 10, and Check() says nothing")
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	var c Counters
	c.Bytes.Delivered = 1
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("Check() = %v, wanted an error about bytes", err)
	}
	c = Counters{}
	c.Sessions.Drop(TLS, 1)
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "sessions") {
		t.Errorf("Check() = %v, wanted an error about sessions", err)
	}
}

// Add sums every counter, including those added later.
func TestAddSumsEveryField(t *testing.T) {
	var c, sum Counters
	n := fill(reflect.ValueOf(&c).Elem(), 0)
	sum.Add(&c)
	sum.Add(&c)
	doubled(t, "Counters", reflect.ValueOf(c), reflect.ValueOf(sum))
	if n < 40 {
		t.Errorf("only %d counters were looked at", n)
	}
}

func fill(v reflect.Value, n uint64) uint64 {
	// Some are summed in their own way: see TestDelaysAt and TestTexts.
	switch h := v.Addr().Interface().(type) {
	case *Delays:
		h.Note(time.Millisecond)
		return n
	case *Texts:
		h.Note(1, "text")
		return n
	}
	switch v.Kind() {
	case reflect.Uint64:
		n++
		v.SetUint(n)
	case reflect.Struct:
		for i := range v.NumField() {
			n = fill(v.Field(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			n = fill(v.Index(i), n)
		}
	default:
		panic("a counter of kind " + v.Kind().String())
	}
	return n
}

func doubled(t *testing.T, name string, one, two reflect.Value) {
	switch h := two.Interface().(type) {
	case Delays:
		if h.Count != 2 {
			t.Errorf("%s: the sum of one delay and itself is %d", name, h.Count)
		}
		return
	case Texts:
		if all, _ := h.All(2); len(all) != 1 {
			t.Errorf("%s: the sum of one text and itself is %+v", name, h)
		}
		return
	}
	switch one.Kind() {
	case reflect.Uint64:
		if two.Uint() != 2*one.Uint() {
			t.Errorf("%s: the sum of %d and itself is %d", name, one.Uint(), two.Uint())
		}
	case reflect.Struct:
		for i := range one.NumField() {
			doubled(t, name+"."+one.Type().Field(i).Name, one.Field(i), two.Field(i))
		}
	case reflect.Array:
		for i := range one.Len() {
			doubled(t, name, one.Index(i), two.Index(i))
		}
	}
}

func TestReasonNames(t *testing.T) {
	seen := map[string]bool{None.String(): true}
	for _, r := range Reasons() {
		name := r.String()
		if name == "" || strings.ToLower(name) != name || strings.ContainsAny(name, " -") {
			t.Errorf("reason %d is called %q, wanted lower case with underscores", r, name)
		}
		if seen[name] {
			t.Errorf("two reasons are called %q", name)
		}
		seen[name] = true
	}
	if len(Reasons()) != int(numReasons)-1 {
		t.Errorf("Reasons() has %d of %d", len(Reasons()), numReasons-1)
	}
	if got := numReasons.String(); !strings.HasPrefix(got, "reason_") {
		t.Errorf("an unknown reason is called %q", got)
	}
}
