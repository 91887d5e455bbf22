package afpacket

import "github.com/vishvananda/netlink"

// largestFrame is the size of the largest frame that an interface of this host may hand up or take
// down, in bytes: 64 KB unless BIG TCP was set up. 0 where it cannot be found out.
func largestFrame() int {
	links, err := netlink.LinkList()
	if err != nil {
		return 0
	}
	largest := uint32(0)
	for _, l := range links {
		a := l.Attrs()
		largest = max(largest, a.GSOMaxSize, a.GROMaxSize, a.GSOIPv4MaxSize, a.GROIPv4MaxSize)
	}
	return int(largest)
}
