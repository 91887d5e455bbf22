package doctor

var unansweredCheck = Check{
	Code: "TC0602", Area: Service,
	Title: "the test server takes requests and does not answer them",
	Roles: []Role{Copier},
	After: []string{"TC0202", "TC0214", "TC0215", "TC0306", "TC0401", "TC0506"},
	How: "It asks the copiers that run beside it, with one of the same mappings, how many " +
		"sessions they dropped with the reason gate_timeout.",
	Why: "A client's next request waits for the answer to the one before. If the target " +
		"never begins an answer that production gave, the session is dropped.",
	Mend: "Look into the test server's log: it may wait for a database or another service, " +
		"or be too slow. With --wait none, requests do not wait.",
	Judge: func(f *Facts) []Result {
		all := f.whileRunning("gate_timeout", "")
		for i := range all {
			all[i] = all[i].at(string(Target))
		}
		return all
	},
}
