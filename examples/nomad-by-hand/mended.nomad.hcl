# A model's carrier and its server in one group, on a host volume: the usual form, mended. The block `lifecycle` lets
# Nomad run the bootstrap first and to its end, and only then the server.
job "digits" {
  group "digits" {
    network {
      port "http" {
        static = 8080
        to     = 8080
      }
    }

    volume "models" {
      type   = "host"
      source = "models"
    }

    task "ml-bootstrap" {
      driver = "docker"

      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      config {
        image   = "nomad-by-hand/digits:1"
        command = "sh"
        args    = ["-c", "/deploy.sh"]
      }

      volume_mount {
        volume      = "models"
        destination = "/model"
      }
    }

    task "ml-service" {
      driver = "docker"

      config {
        image = "nomad-by-hand/server:1"
        ports = ["http"]
      }

      env {
        MODEL = "digits"
      }

      volume_mount {
        volume      = "models"
        destination = "/model"
        read_only   = true
      }

      service {
        name     = "digits"
        port     = "http"
        provider = "nomad"

        check {
          type     = "http"
          path     = "/v2/models/digits/ready"
          interval = "2s"
          timeout  = "1s"
        }
      }

      resources {
        memory = 1024
      }
    }
  }
}
