package localroute

import (
	"github.com/mdlayher/netlink"
)

func netlinkType(kind uint16) netlink.HeaderType { return netlink.HeaderType(kind) }

// withoutCacheInfo leaves out RTA_CACHEINFO, which holds times that pass.
func withoutCacheInfo(b []byte) []byte {
	out := append([]byte(nil), b[:12]...)
	attributes(b[12:], func(kind uint16, v []byte) {
		const cacheInfo = 12
		if kind != cacheInfo {
			out = append(append(out, byte(kind)), v...)
		}
	})
	return out
}
