package doctor

var ringCheck = Check{
	Code: "TC0108", Area: Capture, Quick: true,
	Title: "the kernel drops packets because the capture ring is full",
	Roles: []Role{Copier},
	How:   "It asks the copier that runs beside it for its account.",
	Why: "A packet that the ring has no room for is lost to the copy, and with it the " +
		"session that it belongs to. Production is not harmed.",
	Mend: "A larger ring (-B) helps against bursts. If the copier lacks CPU all the time, " +
		"copy a share of the sessions (-r).",
	Judge: func(f *Facts) []Result {
		r := f.Running
		switch {
		case r == nil || r.Offered == 0:
			return nil
		case r.KernelDrop*1000 < r.Offered:
			return []Result{ok("", "%d of %d packets dropped", r.KernelDrop, r.Offered)}
		}
		return []Result{found("", "%d of %d packets dropped, more than one in a thousand",
			r.KernelDrop, r.Offered).
			fix(CommandLine(withOption(f.Args, "B", "buffer", "256")...))}
	},
}
