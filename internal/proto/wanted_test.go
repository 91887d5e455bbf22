package proto

import "testing"

func TestWantedValues(t *testing.T) {
	w := Wanted{Values: []string{"body.name", "body.list[]*", "body*", "header cookie"}}
	for path, want := range map[string]bool{
		"body.name": true, "body.list[].id": true, "body.other": true, "header vary": false,
		"header cookie": false, "body.user.Password": false, "body.AccessToken": false,
		"body.sessions[].id": false, "body.api_key": false, "": false,
	} {
		if got := w.Keeps(path); got != want {
			t.Errorf("%q is kept: %v", path, got)
		}
	}
	if w = (Wanted{}); w.Keeps("body.name") || !w.IsNone() {
		t.Error("nothing is named, and a value is kept")
	}
}

func TestValuesAreBounded(t *testing.T) {
	var f Field
	long := make([]byte, 10*MaxValue)
	for range 2 * MaxValues {
		f.Keep(long)
	}
	if len(f.Values) != MaxValues || len(f.Values[0]) != MaxValue || f.Values[0][0] != '_' {
		t.Errorf("%d values of %d bytes", len(f.Values), len(f.Values[0]))
	}
}
