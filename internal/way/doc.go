// Package way groups the ways in which a copy reaches the target: socket (connections of this
// host's kernel), raw (our own TCP from the clients' addresses) and tunnel (an intercept on the
// target opens the connections there). Package link is the authenticated connection that copiers,
// intercepts and agents share.
package way
