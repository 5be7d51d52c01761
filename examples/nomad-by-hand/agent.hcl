# For `nomad agent -dev`: the host volume that the jobs ask for, and images that were built here stay.
client {
  host_volume "models" {
    path = "/srv/models"
  }
}

plugin "docker" {
  config {
    gc {
      image = false
    }
  }
}
