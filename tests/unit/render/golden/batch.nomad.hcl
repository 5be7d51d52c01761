# Written by `mlops-deploy render`: change mlops.yml and render again.
# `nomad job run FILE` runs it.
job "digits-test" {
  type        = "batch"
  datacenters = ["*"]

  # Whose this job is; a job without these lines is left alone.
  meta = {
    "io.mlops-deploy.service" = "digits"
    "io.mlops-deploy.env"     = "test"
    "io.mlops-deploy.content" = "1111111111111111111111111111111111111111111111111111111111111111"
  }

  periodic {
    enabled          = true
    crons            = ["@daily"]
    time_zone        = "UTC"
    prohibit_overlap = true
  }

  group "model" {
    count = 1

    reschedule {
      attempts       = 1
      interval       = "24h"
      delay          = "30s"
      delay_function = "constant"
      unlimited      = false
    }

    # Megabytes of the allocation's own directory.
    ephemeral_disk {
      size = 80
    }

    volume "models" {
      type   = "host"
      source = "models"
    }

    # Copies the model and ends; without this lifecycle both tasks would start at once.
    task "bootstrap" {
      driver = "docker"
      user   = "65532:65532"

      lifecycle {
        hook    = "prestart"
        sidecar = false
      }

      config {
        image              = "example/digits:0123456789ab"
        image_pull_timeout = "5m"
        network_mode       = "none"

        # No rights, nothing to write to but what is mounted.
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        pids_limit      = 4096

        mount {
          type   = "tmpfs"
          target = "/tmp"

          # The mode in decimal: 1023 is 1777.
          tmpfs_options {
            size = 67108864
            mode = 1023
          }
        }
      }

      env = {
        MODEL_ID     = "1111111111111111111111111111111111111111111111111111111111111111"
        MODEL_VOLUME = "/model"
      }

      volume_mount {
        volume      = "models"
        destination = "/model"
        read_only   = false
      }

      resources {
        cpu    = 1500
        memory = 512
      }

      restart {
        attempts = 1
        interval = "5m"
        delay    = "5s"
        mode     = "fail"
      }

      logs {
        max_files     = 2
        max_file_size = 1
      }
    }

    task "server" {
      driver       = "docker"
      user         = "65532:65532"
      kill_timeout = "30s"
      kill_signal  = "SIGTERM"

      config {
        image              = "mlops-server-kserve-sklearn:012345abcdef"
        image_pull_timeout = "5m"
        entrypoint         = ["python", "-m", "predict"]

        # No rights, nothing to write to but what is mounted.
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        pids_limit      = 4096

        mount {
          type   = "tmpfs"
          target = "/tmp"

          # The mode in decimal: 1023 is 1777.
          tmpfs_options {
            size = 268435456
            mode = 1023
          }
        }
      }

      env = {
        MODEL_NAME      = "digits"
        MODEL_ID        = "1111111111111111111111111111111111111111111111111111111111111111"
        MODEL_PATH      = "/model/v/1111111111111111111111111111111111111111111111111111111111111111"
        PORT            = "8080"
        GOLDEN          = "[{\"expect\":[{\"data\":[3.5],\"name\":\"predict\"}],\"request\":{\"inputs\":[{\"data\":[1.5,2.0],\"datatype\":\"FP64\",\"name\":\"x\",\"shape\":[1,2]}]},\"tolerance\":1e-06}]"
        OMP_NUM_THREADS = "2"
        GREETING        = "say \"hi\" for $5, it's #1"
        LOG_LEVEL       = "info"
      }

      volume_mount {
        volume      = "models"
        destination = "/model"
        read_only   = true
      }

      resources {
        cpu    = 1500
        memory = 512
      }

      restart {
        attempts = 1
        interval = "5m"
        delay    = "5s"
        mode     = "fail"
      }

      logs {
        max_files     = 3
        max_file_size = 10
      }
    }
  }
}
