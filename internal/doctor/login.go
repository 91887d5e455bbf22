package doctor

import (
	"fmt"
	"maps"
	"slices"
)

var loginCheck = Check{
	Code: "TC0603", Area: Service,
	Title: "the target refuses the copies' logins",
	Roles: []Role{Copier},
	How: "It asks the copiers that run beside it, with one of the same mappings, how many " +
		"sessions they dropped with the reason login_failed, and for the target's errors.",
	Why: "A copy logs in to the target for itself. Without a login the target takes no " +
		"statement.",
	Mend: "Give the target's users these passwords, or correct the login file. The error " +
		"says what the target did not accept.",
	Judge: func(f *Facts) []Result {
		more := ""
		if f.Running != nil {
			for _, class := range slices.Sorted(maps.Keys(f.Running.LoginsRefused)) {
				more += fmt.Sprintf(", %s %d times", class, f.Running.LoginsRefused[class])
			}
		}
		return f.whileRunning("login_failed", more)
	},
}
