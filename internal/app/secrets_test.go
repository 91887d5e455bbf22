package app

import (
	"slices"
	"strings"
	"testing"
)

func TestWithoutProtocolOptions(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"copy -x 80-10.0.0.2:8080 -s 10.0.0.3", "copy -x 80-10.0.0.2:8080 -s 10.0.0.3"},
		{"copy --mysql-login app:secret -x 3306-10.0.0.2:3306", "copy -x 3306-10.0.0.2:3306"},
		{"copy --mysql-login=app:secret -x 3306-10.0.0.2:3306", "copy -x 3306-10.0.0.2:3306"},
		{"copy --redis-auth :secret --mysql-read-only --key k", "copy --key k"},
	} {
		got := withoutProtocolOptions(strings.Fields(tc.args))
		if !slices.Equal(got, strings.Fields(tc.want)) {
			t.Errorf("%q: %q, want %q", tc.args, got, tc.want)
		}
	}
}
