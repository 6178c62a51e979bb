"""Triangle meshes as arrays: sampling, inside and outside, distances, repair, isosurfaces. Knows no files, no networks and no codes."""
