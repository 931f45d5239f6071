"""`bench`: what this machine can do, and how near to that each part of a system comes."""
